"""Parts of the rows of a matrix, cut into stretches by which they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Stretches = NDArray[np.int64]
"""Where each stretch of rows starts, and the row after its last [k, 2]; none is empty."""


def stretches(spans: Iterable[tuple[int, int]], rows: int) -> Stretches:
    """Stretches of at most some rows that make up spans of rows (start, stop)."""
    cut = [
        (first, min(first + rows, stop))
        for start, stop in spans
        for first in range(start, stop, rows)
    ]
    return np.array(cut, np.int64).reshape(-1, 2)


class Filled(NamedTuple):
    """A part that has rows: its number, where its stretches are among all, and how many rows."""

    number: int
    where: slice
    rows: int


class Parts:
    """Several parts, laid side by side: made once, for many matrices of as many rows.

    Args:
        parts: The stretches of each part, which may have none.

    Attributes:
        stretches: Those of all parts [k, 2].
        filled: The parts that have any, in order.
        starts: The first stretch of each of these.
    """

    def __init__(self, parts: Sequence[Stretches]) -> None:
        ends = np.cumsum([0, *map(len, parts)]).tolist()
        self._count = len(parts)
        self.stretches: Stretches = np.concatenate([stretches([], 1), *parts])
        self.filled = [
            Filled(number, slice(start, stop), int(np.diff(self.stretches[start:stop]).sum()))
            for number, (start, stop) in enumerate(pairwise(ends))
            if stop > start
        ]
        self.starts = [part.where.start for part in self.filled]

    def __len__(self) -> int:
        return self._count
