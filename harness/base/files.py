"""Files that are never cut short: written beside, and renamed once they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a place to write to, which becomes the file where the block ends well.

    After an error, such as that of a full disk, the file is what it was before, or is not there.

    Args:
        path: The file; its folder exists.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a whole file of text in UTF-8.

    Args:
        path: The file; its folder exists.
        text: What it will hold.
    """
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
