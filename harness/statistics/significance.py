"""P-values for differences that are paired by unit: a text, or a block of windows.

Legend: R rows (one per variant or control), U units.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from harness.kernels.signs import ROWS, sums_of_chosen

FEWEST_UNITS = 6
"""With fewer units that differ the smallest p, 2 / 2^U, is above 0.05."""

FEWEST_RESAMPLES = 19
"""With fewer random changes of sign the smallest p, 1 / (1 + resamples), is above 0.05."""

# Changes of sign are tried so many at a time: with 10^5 units they take 13 MB.
_CHANGES = 1024

_Array = npt.NDArray[np.float64]
_Words = npt.NDArray[np.uint64]


def paired_p_values(d: npt.ArrayLike, resamples: int = 10_000, seed: int = 0) -> list[float | None]:
    """Returns for each row the two-sided p-value of sum(d) under random changes of sign.

    The paired permutation test: were the variant no different from the original, each unit's
    difference could as well have had the other sign, and p is the share of such changes under which
    |sum(d)| is as large as it is. All 2^U are tried where that is no more than ``resamples``;
    otherwise random ones, and the observed one is counted among them (Phipson & Smyth 2010,
    *Permutation p-values should never be zero*). All rows see the same changes, and a row's p
    depends neither on which other rows are there nor on how a machine orders its sums.

    A test that could not reach 0.05 whatever it saw has no p: of fewer than ``FEWEST_UNITS``
    units whose difference is not zero (of none, where nothing was edited), or of fewer than
    ``FEWEST_RESAMPLES`` changes of sign.

    Args:
        d: Differences summed per unit, nats, [R, U].
        resamples: Number of random changes of sign.
        seed: Seed of these.

    Returns:
        One p-value per row; None where 0.05 is out of reach or a difference is not finite.
    """
    rows = np.asarray(d, dtype=np.float64)
    finite = np.isfinite(rows).all(-1)
    tested = finite & (np.count_nonzero(rows, axis=-1) >= FEWEST_UNITS)
    p_values: list[float | None] = [None] * len(rows)
    if resamples >= FEWEST_RESAMPLES and tested.any():
        measured = _flip_signs(_whole(rows[tested]), resamples, seed)
        for index, p in zip(np.flatnonzero(tested), measured, strict=True):
            p_values[index] = float(p)
    return p_values


def _whole(rows: _Array) -> _Array:
    """Rows as whole numbers of a step of their own, so fine that no sum of theirs is rounded.

    The step is a power of two, and the magnitudes of a row add up to about 2^51 steps: floating
    point then adds them without error in whatever order, on any number of threads.
    """
    _, exponent = np.frexp(np.abs(rows).sum(-1))
    steps: _Array = np.rint(np.ldexp(rows, 51 - exponent[:, None]))
    return steps


def _flip_signs(rows: _Array, resamples: int, seed: int) -> _Array:
    """Returns the p-value of each row of whole numbers, [R]."""
    count, units = rows.shape
    exhaustive = 2**units <= resamples
    observed = rows.sum(-1)
    # Each unit was rounded by half a step at most, here and there: what is nearer is equal.
    enough = np.abs(observed) - units
    extreme = np.zeros(count, dtype=np.int64)
    tried = 0

    def try_changes(words: _Words, first: int) -> None:
        some = slice(first, first + ROWS)
        by_unit = np.zeros((64 * len(words), ROWS))
        by_unit[:units, : len(rows[some])] = rows[some].T
        positive = sums_of_chosen(words, by_unit)[:, : len(rows[some])]
        sums = 2 * positive - observed[some]
        extreme[some] += np.count_nonzero(np.abs(sums) >= enough[some], axis=0)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for words in (
            _every_change(units) if exhaustive else _random_changes(units, resamples, seed)
        ):
            list(pool.map(partial(try_changes, words), range(0, count, ROWS)))
            tried += words.shape[1]
    p_values: _Array = extreme / tried if exhaustive else (1 + extreme) / (1 + tried)
    return p_values


def _every_change(units: int) -> Iterator[_Words]:
    """Yields all changes of sign of fewer than 64 units, a bit each, [1, 2^U]."""
    yield np.arange(2**units, dtype=np.uint64)[None]


def _random_changes(units: int, resamples: int, seed: int) -> Iterator[_Words]:
    """Yields random changes of sign, a bit per unit, [U / 64, C] at a time."""
    generator = np.random.Generator(np.random.PCG64(seed))
    words = -(-units // 64)
    for first in range(0, resamples, _CHANGES):
        size = (min(_CHANGES, resamples - first), words)
        drawn = generator.integers(0, 2**64, size, dtype=np.uint64)
        yield np.ascontiguousarray(drawn.T)
