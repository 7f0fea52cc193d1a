"""A file of steps, each with its number, its key and a checksum."""

from __future__ import annotations

import json
import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

# In front of each step: its number, its key, its length in bytes, and a checksum of all four.
_HEAD = struct.Struct("<q16sQI")
# The number of what stands first in a file and is no step: what it is of, as JSON.
_ABOUT = -2


class StepFile:
    """A file of steps, which grows while a run goes on and can be read in the meantime.

    Args:
        path: The file, which is made anew if it is written. None: a temporary file.
        about: What the steps are of, where the file is written; None where it is read.

    Attributes:
        about: What the steps are of; nothing where the file holds no such record yet.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any] | None = None) -> None:
        # Open for as long as the object lives.
        if path is None:
            file: Any = tempfile.TemporaryFile()  # noqa: SIM115
        else:
            file = path.open("rb" if about is None else "w+b")
        self._file: IO[bytes] = file
        weakref.finalize(self, file.close)
        self.about: Mapping[str, Any] = {}
        self._steps = 0
        self._end = 0
        if about is not None:
            self.about = about
            self._write(_ABOUT, json.dumps(about).encode())

    def append(self, number: int, data: bytes, key: str = "") -> Place:
        """Writes a step at the end, in one piece, and hands it to the system."""
        start = self._write(number, data, key)
        self._steps += 1
        return Place(self, start, len(data), key)

    def news(self) -> Iterator[tuple[int, Place]]:
        """Yields what was written since it was last asked, up to what is damaged or not whole."""
        size = self._file.seek(0, 2)
        while self._end + _HEAD.size <= size:
            self._file.seek(self._end)
            head = self._file.read(_HEAD.size)
            number, key, length, _ = _HEAD.unpack(head)
            start = self._end + _HEAD.size
            data = self._file.read(length) if start + length <= size else None
            if data is None or _head(number, key.hex(), data) != head:
                return
            self._end = start + length
            if number == _ABOUT:
                self.about = json.loads(data)
            else:
                self._steps += 1
                yield number, Place(self, start, length, key.hex())

    def __len__(self) -> int:
        """How many steps were written or read so far."""
        return self._steps

    @property
    def is_closed(self) -> bool:
        """Whether the file was closed."""
        return self._file.closed

    def whole(self) -> bytes:
        """All that the file holds."""
        return self.read(0, self._end)

    def read(self, start: int, length: int) -> bytes:
        """Reads a part of the file."""
        self._file.seek(start)
        return self._file.read(length)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, number: int, data: bytes, key: str = "") -> int:
        """Writes a record, and returns where its bytes begin."""
        self._file.seek(self._end)
        self._file.write(_head(number, key, data) + data)
        self._file.flush()
        start = self._end + _HEAD.size
        self._end = start + len(data)
        return start


class Place(NamedTuple):
    """Where a step lies.

    Attributes:
        file: In which file.
        start: Where it begins there.
        length: How many bytes it has.
        key: What is the same for steps of the same batch in the same setting.
    """

    file: StepFile
    start: int
    length: int
    key: str

    def read(self) -> bytes:
        """The bytes of the step."""
        return self.file.read(self.start, self.length)


def _head(number: int, key: str, data: bytes) -> bytes:
    raw = bytes.fromhex(key).ljust(16, b"\0")
    checksum = zlib.crc32(_HEAD.pack(number, raw, len(data), 0) + data)
    return _HEAD.pack(number, raw, len(data), checksum)
