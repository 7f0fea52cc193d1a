"""Units of resampling: documents or, in a joined corpus, blocks of windows."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from torch import Tensor

from harness.data.documents import Document
from harness.data.windows import Window


@dataclass(frozen=True)
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


def document_units(
    documents: list[Document], cut: list[list[Window]], covered: bool, tokens: list[Tensor]
) -> tuple[list[int], list[Unit]]:
    """Makes each document a unit.

    Args:
        documents: Those that have windows.
        cut: The windows of each.
        covered: Whether every token of every document is scored.
        tokens: Token ids of every document, by ``Window.document``.

    Returns:
        Unit of each window, and the units.
    """
    unit_of = [unit for unit, part in enumerate(cut) for _ in part]
    same_as = _same_as(cut, tokens)
    units = [
        Unit(
            document.name,
            sum(window.scored for window in part),
            document.words if covered else None,
            document.bytes if covered else None,
            same,
        )
        for document, part, same in zip(documents, cut, same_as, strict=True)
    ]
    return unit_of, units


def block_units(windows: list[Window], tokens: list[Tensor]) -> tuple[list[int], list[Unit]]:
    """Makes each block of consecutive windows a unit.

    Args:
        windows: All windows.
        tokens: Token ids of every document, by ``Window.document``.

    Returns:
        Unit of each window, and the units.
    """
    from harness.statistics.intervals import block_length

    length = block_length(len(windows))
    starts = range(0, len(windows), length)
    blocks = [windows[first : first + length] for first in starts]
    units = [
        Unit(
            f"windows {first}-{first + len(block) - 1}",
            sum(window.scored for window in block),
            None,
            None,
            same,
        )
        for first, block, same in zip(starts, blocks, _same_as(blocks, tokens), strict=True)
    ]
    return [number // length for number in range(len(windows))], units


def _same_as(parts: list[list[Window]], tokens: list[Tensor]) -> list[int]:
    """Number of the first part, for each, whose windows hold the same ids and score the same."""
    first: dict[bytes, int] = {}
    found = []
    for number, part in enumerate(parts):
        digest = blake2b(digest_size=16)
        for window in part:
            ids = tokens[window.document][window.start : window.stop]
            digest.update(f"{len(ids)} {window.scored} {window.bos} ".encode())
            digest.update(ids.numpy().tobytes())
        found.append(first.setdefault(digest.digest(), number))
    return found
