"""What a local file holds: unpacked, decoded, and every failure told in one line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from harness.data.files import packing
from harness.errors import ConfigError

_BOM = "\ufeff"


def unreadable(path: Path, reason: str) -> ConfigError:
    """What says that a file cannot be read, or holds what is no text."""
    return ConfigError("data.dataset", str(path), reason)


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Opens a file, unpacked as its ending says.

    Raises:
        ConfigError: It cannot be opened or, within the block, be read or unpacked to its end.
    """
    try:
        with _opened(path) as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, MemoryError):
            told = "too large for the memory of this machine"
        raise unreadable(path, f"cannot be read: {' '.join(told.split())}") from error


def _opened(path: Path) -> BinaryIO:
    if packing(path) == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(path.open("rb"), "zstd"))
    how: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(packing(path), open)
    return cast(BinaryIO, how(path, "rb"))


def read_text(path: Path) -> str:
    """Reads a text file exactly as it is: UTF-8, line ends untouched, without the BOM.

    Raises:
        ConfigError: The file cannot be read or is not UTF-8.
    """
    return "".join(line for _, line in read_lines(path))


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Reads a text file line by line, however large it is: lines end with ``\n`` alone.

    Returns:
        Number of each line, from 1 on, and the line with its end.

    Raises:
        ConfigError: The file cannot be read, or a line is not UTF-8.
    """
    with unpacked(path) as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 (byte {error.start} of line {number}); convert it first"
                raise unreadable(path, reason) from None
            yield number, line.removeprefix(_BOM) if number == 1 else line
