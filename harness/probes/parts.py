"""Parts of the rows of a matrix, cut into stretches by which they are read."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Stretches = NDArray[np.int64]
"""Where each stretch of rows starts, and the row after its last [k, 2]; none is empty."""

Key = TypeVar("Key", bound=Hashable)


class Parts(Generic[Key]):
    """Several parts, laid side by side: made once, for many matrices of as many rows.

    Args:
        spans: Rows (start, stop) of each part, by what names it.
        longest: How many rows a stretch has at most.

    Attributes:
        stretches: Those of all parts [k, 2].
        filled: The parts that have rows, in order: what names each, where its stretches are among
            all, and how many rows it has.
        starts: The first stretch of each of these.
    """

    def __init__(self, spans: Mapping[Key, Iterable[tuple[int, int]]], longest: int) -> None:
        cut: list[tuple[int, int]] = []
        self.filled: list[tuple[Key, slice, int]] = []
        for key, of_part in spans.items():
            before = len(cut)
            for start, stop in of_part:
                cut += [(k, min(k + longest, stop)) for k in range(start, stop, longest)]
            rows = sum(stop - start for start, stop in cut[before:])
            if rows:
                self.filled.append((key, slice(before, len(cut)), rows))
        self.stretches: Stretches = np.array(cut, np.int64).reshape(-1, 2)
        self.starts = [where.start for _, where, _ in self.filled]
