"""Sums of what is chosen against naive ones."""

from __future__ import annotations

import numpy as np
import pytest

from harness.kernels.signs import ROWS, sums_of_chosen


def naive(words: np.ndarray, by_unit: np.ndarray) -> np.ndarray:
    sums = np.zeros((words.shape[1], ROWS))
    for choice in range(words.shape[1]):
        for unit, row in enumerate(by_unit):
            if int(words[unit // 64, choice]) >> unit % 64 & 1:
                sums[choice] += row
    return sums


def whole(rng: np.random.Generator, units: int) -> np.ndarray:
    """Numbers whose sums are exact in any order."""
    return rng.integers(-(2**40), 2**40, (units, ROWS)).astype(np.float64)


@pytest.mark.parametrize(("words", "choices"), [(1, 1), (1, 300), (3, 17), (5, 1024)])
def test_sums_are_those_of_the_units_that_are_chosen(words: int, choices: int) -> None:
    rng = np.random.default_rng(words)
    chosen = rng.integers(0, 2**64, (words, choices), dtype=np.uint64)
    by_unit = whole(rng, 64 * words)
    assert (sums_of_chosen(chosen, by_unit) == naive(chosen, by_unit)).all()


def test_each_bit_is_a_unit_the_lowest_first() -> None:
    by_unit = whole(np.random.default_rng(0), 128)
    single = np.zeros((2, 128), dtype=np.uint64)
    for unit in range(128):
        single[unit // 64, unit] = 1 << unit % 64
    assert (sums_of_chosen(single, by_unit) == by_unit).all()


def test_none_and_all() -> None:
    by_unit = whole(np.random.default_rng(1), 192)
    ends = np.array([[0, 2**64 - 1]] * 3, dtype=np.uint64)
    assert (sums_of_chosen(ends, by_unit) == [np.zeros(ROWS), by_unit.sum(0)]).all()


def test_no_units_and_no_choices() -> None:
    assert (sums_of_chosen(np.zeros((0, 4), np.uint64), np.zeros((0, ROWS))) == 0).all()
    assert sums_of_chosen(np.zeros((2, 0), np.uint64), np.ones((128, ROWS))).shape == (0, ROWS)


def test_fractions_are_added_to_within_rounding() -> None:
    rng = np.random.default_rng(2)
    chosen = rng.integers(0, 2**64, (4, 50), dtype=np.uint64)
    by_unit = rng.normal(size=(256, ROWS))
    found = sums_of_chosen(chosen, by_unit)
    np.testing.assert_allclose(found, naive(chosen, by_unit), rtol=0, atol=1e-12)


def test_what_is_given_stays_as_it_was() -> None:
    rng = np.random.default_rng(3)
    chosen, by_unit = rng.integers(0, 2**64, (1, 9), dtype=np.uint64), whole(rng, 64)
    before = chosen.copy(), by_unit.copy()
    sums_of_chosen(chosen, by_unit)
    assert (chosen == before[0]).all()
    assert (by_unit == before[1]).all()
