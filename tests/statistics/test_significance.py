"""P-values against scipy called plainly, enumeration, and simulation."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy.stats import kstest, norm, permutation_test

from harness.statistics import significance
from harness.statistics.significance import FEWEST_RESAMPLES, FEWEST_UNITS, paired_p_values
from tests.statistics.paired import documents


@pytest.mark.parametrize("units", [6, 13])
def test_p_value_of_few_units_is_exact(units: int) -> None:
    d = np.array([0.3, -0.1, 0.9, 0.45, -0.2, 0.7, 0.1, 0.2, 0.3, -1.1, 0.6, 1.3, 0.4][:units])
    sums = np.array(list(itertools.product([-1, 1], repeat=units))) @ d
    expected = np.mean(np.abs(sums) >= abs(d.sum()) - 1e-12)
    assert 0 < expected < 1
    rows = [d, -d, np.full(units, 0.2), 1e-9 * d, 1e200 * d]
    p_values = paired_p_values(rows, resamples=2**units, seed=9)
    least = 2 / 2**units
    assert p_values == pytest.approx([expected, expected, least, expected, expected], rel=1e-12)


def test_p_value_of_few_units_is_that_of_scipys_test() -> None:
    d = np.random.default_rng(2).normal(0.4, 1.0, 11)
    expected = permutation_test(
        (d,), lambda x, axis: x.sum(axis), permutation_type="samples", vectorized=True
    ).pvalue
    assert 0.005 < expected < 0.5
    assert paired_p_values([d]) == [pytest.approx(expected, rel=1e-12)]


def test_p_value_of_many_units_is_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.12, 1.0, 300)
    expected = 2 * norm.sf(abs(d.sum()) / np.sqrt((d**2).sum()))
    assert paired_p_values([d], 9_999) == [pytest.approx(expected, abs=0.015)]
    assert paired_p_values([d + 10], 999) == [1 / 1_000]


@pytest.mark.parametrize("units", [30, 64, 65])
def test_p_value_of_random_signs_is_what_these_signs_give(units: int) -> None:
    d = np.random.default_rng(1).normal(0.3, 1.0, units)
    words = -(-units // 64)
    drawn = np.random.Generator(np.random.PCG64(5)).integers(0, 2**64, (999, words), np.uint64)
    extreme = 0
    for row in drawn.tolist():
        number = sum(word << 64 * place for place, word in enumerate(row))
        signs = [1 if number >> unit & 1 else -1 for unit in range(units)]
        extreme += abs(np.dot(signs, d)) >= abs(d.sum())
    assert 0.005 < extreme / 999 < 0.5
    assert paired_p_values([d], 999, seed=5) == [pytest.approx((1 + extreme) / 1_000, rel=1e-12)]
    assert paired_p_values([d], 999, seed=6) != paired_p_values([d], 999, seed=5)


@pytest.mark.parametrize("units", [6, 8, 25])
def test_p_values_of_no_effect_keep_their_level(units: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(2000, units)) * rng.exponential(size=units)
    p = np.array(paired_p_values(rows, 999))
    if units == 25:
        assert kstest(p, "uniform").pvalue > 0.01
    # Of six units p comes in steps of 1/32, and so is at most 0.05 in 1/32.
    assert 0.02 < (p <= 0.05).mean() < 0.065


@pytest.mark.parametrize("units", range(7))
def test_there_is_a_p_value_only_where_it_can_reach_0_05(units: int) -> None:
    (p,) = paired_p_values(np.ones((1, units)))
    assert p == (2 / 2**units if units >= 6 else None)
    # Units that do not change can have no other sign: they add nothing to what can be told.
    (p,) = paired_p_values([[*np.ones(units), *np.zeros(30)]])
    assert (p is None) is (units < FEWEST_UNITS)
    assert 2 / 2**FEWEST_UNITS <= 0.05 < 2 / 2 ** (FEWEST_UNITS - 1)


def test_too_few_changes_of_sign_give_no_p_value() -> None:
    d = np.ones((1, 40))
    assert paired_p_values(d, FEWEST_RESAMPLES) == [0.05]
    assert paired_p_values(d, FEWEST_RESAMPLES - 1) == [None]


def test_no_difference_has_no_p_value() -> None:
    assert paired_p_values(np.zeros((1, 500)), 100) == [None]
    assert paired_p_values(np.zeros((1, 0))) == [None]
    assert paired_p_values(np.zeros((0, 5))) == []


def test_a_p_value_does_not_depend_on_its_company_nor_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d, _ = documents(70, rows=4, effect=0.02)
    d *= np.array([[1.0], [1e-6], [1e3], [1.0]])
    together = paired_p_values(d, 500, seed=3)
    assert len(set(together)) > 1
    monkeypatch.setattr(significance, "_CHANGES", 30)
    assert [paired_p_values(row, 500, seed=3) for row in d[:, None]] == [[p] for p in together]


def test_sums_are_exact_in_any_order() -> None:
    """Sums that differ by the order alone are equal, as whole numbers are added without error."""
    rng = np.random.default_rng(0)
    d = rng.normal(size=(1, 1000)) * rng.lognormal(0, 5, 1000)
    whole = significance._whole(d)
    assert (whole == np.rint(whole)).all()
    assert 2**49 < np.abs(whole).sum() < 2**52
    orders = [rng.permutation(1000) for _ in range(20)]
    assert len({float(whole[0, order].sum()) for order in orders}) == 1
    assert whole / whole.max() == pytest.approx(d / d.max(), abs=1e-13)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_have_no_p_value_and_leave_the_rest(bad: float) -> None:
    d, _ = documents(20, rows=2)
    alone = paired_p_values(d[1:], 300)
    d[0, 4], d[0, 5] = bad, -bad
    assert paired_p_values(d, 300) == [None, *alone]


def test_ten_thousand_documents_take_seconds() -> None:
    d, _ = documents(10_000, rows=20)
    start = time.perf_counter()
    paired_p_values(d)
    assert time.perf_counter() - start < 15  # 1.2 where this was written
