"""What a file holds, packed or not, and the line that each failure is told in."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow
import pytest

from harness.data.contents import read_lines, read_text
from harness.errors import ConfigError

RAW = "one\r\ntwo\rthree\n\n é\x0b\u2028\x00😀".encode()


def zstd(raw: bytes) -> bytes:
    return pyarrow.compress(raw, "zstd", asbytes=True)


PACKERS = {".txt": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".XZ": lzma.compress}
PACKERS |= {".zst": zstd}


@pytest.fixture(params=PACKERS)
def packed(request, tmp_path: Path):
    """Writes bytes as a file of each packing."""

    def write(raw: bytes, end: int | None = None) -> Path:
        path = tmp_path / f"a.txt{request.param}"
        path.write_bytes(PACKERS[request.param](raw)[:end])
        return path

    return write


def test_text_is_read_exactly(packed):
    assert read_text(packed(RAW)).encode() == RAW
    assert read_text(packed(b"")) == ""


def test_lines_end_with_line_feeds_alone(packed):
    expected = [(1, "one\r\n"), (2, "two\rthree\n"), (3, "\n"), (4, " é\x0b\u2028\x00😀")]
    assert list(read_lines(packed(RAW))) == expected


def test_a_bom_is_no_text(packed):
    path = packed(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo")
    assert read_text(path) == "one\n\ufefftwo"
    assert list(read_lines(path)) == [(1, "one\n"), (2, "\ufefftwo")]


def test_bytes_that_are_no_text(packed):
    path = packed(b"ab\nc\xff\n")
    for read in (read_text, read_lines):
        with pytest.raises(ConfigError) as caught:
            list(read(path))
        assert str(caught.value) == (
            f"data.dataset={str(path)!r}: not UTF-8 (byte 1 of line 2); convert it first"
        )


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_what_cannot_be_unpacked(tmp_path, ending, damage):
    whole = {**PACKERS, ".xz": lzma.compress}[ending](b"some text that is cut short" * 9)
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(whole[:-9] if damage == "cut" else b"no archive")
    for read in (read_text, read_lines):
        with pytest.raises(ConfigError, match=r"^data\.dataset='.*': cannot be read: [^\n]+$"):
            list(read(path))


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be read: No such file"):
        read_text(tmp_path / "gone.txt")
