"""P-values against scipy called plainly, enumeration, and simulation; comparison with controls."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import kstest, norm, permutation_test

from harness.scoring import significance
from harness.scoring.intervals import Interval, ratio_intervals
from harness.scoring.significance import control_p_value, paired_p_values, versus_controls
from tests.scoring.paired import documents


def test_p_value_of_few_units_is_exact() -> None:
    d = np.array([0.3, -0.1, 0.9, 0.45, -0.2, 0.7])
    sums = [abs(np.dot(s, d)) for s in itertools.product([-1, 1], repeat=6)]
    expected = np.mean([s >= abs(d.sum()) - 1e-12 for s in sums])
    assert 0 < expected < 1
    p_values = paired_p_values([d, -d, np.full(6, 0.2)], resamples=64, seed=9)
    assert p_values == pytest.approx([expected, expected, 2 / 64], rel=1e-12)


def test_p_value_of_many_units_is_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.12, 1.0, 300)
    expected = 2 * norm.sf(abs(d.sum()) / np.sqrt((d**2).sum()))
    assert paired_p_values([d], 9_999) == [pytest.approx(expected, abs=0.015)]
    assert paired_p_values([d + 10], 999) == [2 / 1_000]


def test_p_value_of_random_signs_is_that_of_scipys_test_called_plainly() -> None:
    d = np.random.default_rng(0).normal(0.3, 1.0, 40)
    expected = permutation_test(
        (d,),
        lambda x, axis: x.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=999,
        rng=np.random.Generator(np.random.PCG64(5)),
    ).pvalue
    assert 0.005 < expected < 0.5
    assert paired_p_values([d], 999, seed=5) == [pytest.approx(expected, rel=1e-12)]
    assert paired_p_values([d], 999, seed=6) != paired_p_values([d], 999, seed=5)


def test_p_values_of_no_effect_are_uniform() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 25)) * rng.exponential(size=25)
    p = np.array(paired_p_values(rows, 999))
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < (p <= 0.05).mean() < 0.09


def test_no_difference_and_single_units_have_p_one() -> None:
    assert paired_p_values(np.zeros((1, 5)), 100) == [1.0]
    assert paired_p_values(np.zeros((1, 500)), 100) == [1.0]
    assert paired_p_values([[4.0], [math.nan]]) == [1.0, None]
    assert paired_p_values(np.zeros((1, 0))) == [1.0]
    assert paired_p_values(np.zeros((0, 5))) == []


def test_a_p_value_does_not_depend_on_its_company_nor_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d, _ = documents(30, rows=4)
    together = paired_p_values(d, 500, seed=3)
    monkeypatch.setattr(significance, "_SIGNS", 1_000)
    assert [paired_p_values(row, 500, seed=3) for row in d[:, None]] == [[p] for p in together]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_have_no_p_value_and_leave_the_rest(bad: float) -> None:
    d, _ = documents(20, rows=2)
    alone = paired_p_values(d[1:], 300)
    d[0, 4], d[0, 5] = bad, -bad
    assert paired_p_values(d, 300) == [None, *alone]


def test_control_p_value_is_a_rank() -> None:
    controls = [i / 100 for i in range(19)]
    assert control_p_value(1.0, controls) == 1 / 20
    assert control_p_value(0.18, controls) == 2 / 20
    assert control_p_value(-1.0, controls) == 1.0
    assert control_p_value(1.0, controls[1:]) is None
    assert control_p_value(None, controls) is control_p_value(math.nan, controls) is None
    assert control_p_value(1.0, [*controls[2:], math.nan, None]) == 3 / 20


def test_versus_controls_resamples_documents() -> None:
    (d,), t = documents(30, effect=0.5)
    controls, _ = documents(30, rows=20, seed=7, effect=0.1)
    got = versus_controls(d, controls, t, 500, 0.9, seed=2)
    mean = controls.mean(0)
    expected = ratio_intervals([mean, d - mean], t, 500, 0.9, seed=2)
    assert [got.controls, got.excess] == expected
    assert got.importance_ratio == pytest.approx(d.sum() / mean.sum(), rel=1e-12)
    assert got.p_value == 1 / 21


def test_importance_ratio_needs_controls_that_do_something() -> None:
    (d,), t = documents(30, effect=0.5)
    idle = versus_controls(d, np.zeros((3, 30)), t, 300)
    assert idle.importance_ratio is idle.p_value is None
    assert [idle.excess] == ratio_intervals([d], t, 300)
    noisy, _ = documents(30, rows=1, seed=3, effect=0.0)
    vague = versus_controls(d, noisy, t, 300)
    assert not vague.controls.excludes_zero()
    assert vague.importance_ratio is None
    broken = versus_controls(d, np.full((3, 30), np.nan), t, 300)
    assert broken.controls == broken.excess == Interval(None, None, None)
    assert broken.importance_ratio is None
