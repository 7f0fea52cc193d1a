"""Units of resampling: documents or, in a joined corpus, blocks of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from torch import Tensor

from harness.data.documents import Document, Join
from harness.data.windows import Window


@dataclass(frozen=True, slots=True)
class Unit:
    """What the bootstrap draws: a document or, in a joined corpus, a block of windows.

    Args:
        name: The document's name, or the range of windows.
        tokens: Scored tokens.
        words: Words of the raw document; None for a block, and where not every token is scored.
        bytes: UTF-8 bytes of the raw document; None in the same cases.
        same_as: Number of the first unit with the same tokens, its own where it is the first: a
            text that occurs twice is no more evidence than once.
    """

    name: str
    tokens: int
    words: int | None
    bytes: int | None
    same_as: int


def make_units(
    documents: Sequence[Document],
    cut: list[list[Window]],
    tokens: list[Tensor],
    *,
    join: Join,
    first: int = 0,
    seen: dict[bytes, int] | None = None,
) -> tuple[list[int], list[Unit]]:
    """Makes a unit of each document that has windows or, of a joined corpus, of each block of them.

    Args:
        documents: The documents.
        cut: The windows of each.
        tokens: The token ids of each.
        join: What the documents were made by.
        first: Number of the first unit: how many there are of documents before these.
        seen: By what tells texts apart the first unit that has each, of documents before these; it
            grows by those that are made. None: there are none before.

    Returns:
        Unit of each window, and the units.
    """
    from harness.statistics.intervals import block_length

    about: list[tuple[str, int | None, int | None]]
    if join == "document":
        used = [(document, part) for document, part in zip(documents, cut, strict=True) if part]
        parts = [part for _, part in used]
        about = [(document.name, document.words, document.bytes) for document, _ in used]
    else:
        windows = [window for part in cut for window in part]
        length = block_length(len(windows))
        starts = range(0, len(windows), length)
        parts = [windows[first : first + length] for first in starts]
        lasts = [min(first + length, len(windows)) - 1 for first in starts]
        about = [(f"windows {a}-{b}", None, None) for a, b in zip(starts, lasts, strict=True)]
    seen = {} if seen is None else seen
    units = []
    for number, ((name, words, size), part) in enumerate(zip(about, parts, strict=True), first):
        scored = sum(window.scored for window in part)
        same_as = seen.setdefault(_digest(part, tokens), number)
        units.append(Unit(name, scored, words, size, same_as))
    return [unit for unit, part in enumerate(parts, first) for _ in part], units


def _digest(part: list[Window], tokens: list[Tensor]) -> bytes:
    """What is the same for windows that hold the same ids and score the same ones."""
    digest = blake2b(digest_size=16)
    for window in part:
        ids = tokens[window.document][window.start : window.stop]
        digest.update(f"{len(ids)} {window.scored} {window.bos} ".encode())
        digest.update(ids.numpy().tobytes())
    return digest.digest()
