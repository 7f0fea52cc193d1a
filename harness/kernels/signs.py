"""Sums under many changes of sign, compiled.

A product of matrices would need the signs as numbers, eight bytes for each bit, and one step of
arithmetic for each; here a table holds the sums of every four units, and a step takes four of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

ROWS = 16
"""Rows that are added up at a time: what their tables take fits into the nearest cache."""


@njit(nogil=True)
def sums_of_chosen(words: NDArray[np.uint64], by_unit: NDArray[Any]) -> NDArray[Any]:
    """Sums over the units that each choice takes; the order in which they are added is not said.

    Args:
        words: Choices, a bit per unit, the lowest first, 64 units after 64 [W, C].
        by_unit: What is added up, fp64 [64 W, `ROWS`].

    Returns:
        fp64 [C, `ROWS`].
    """
    sums = np.zeros((words.shape[1], ROWS))
    tables = np.zeros((16, 16, ROWS))
    low = np.uint64(15)
    for k in range(len(words)):
        for n in range(16):
            for bit in range(4):
                for m in range(1 << bit):
                    for r in range(ROWS):
                        more = by_unit[64 * k + 4 * n + bit, r]
                        tables[n, m + (1 << bit), r] = tables[n, m, r] + more
        for c in range(words.shape[1]):
            word = words[k, c]
            for n in range(0, 16, 4):  # four at a time, so that sums are fetched less often
                one = tables[n, word & low]
                two = tables[n + 1, (word >> np.uint64(4)) & low]
                three = tables[n + 2, (word >> np.uint64(8)) & low]
                four = tables[n + 3, (word >> np.uint64(12)) & low]
                word >>= np.uint64(16)
                for r in range(ROWS):
                    sums[c, r] += (one[r] + two[r]) + (three[r] + four[r])
    return sums
