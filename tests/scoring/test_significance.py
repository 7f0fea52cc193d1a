"""Intervals and p-values against scipy called plainly, enumeration, and simulation."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap, kstest, norm, permutation_test

from harness.scoring import significance
from harness.scoring.significance import (
    Interval,
    block_labels,
    block_length,
    control_p_value,
    paired_p_value,
    paired_p_values,
    ratio_interval,
    ratio_intervals,
    versus_controls,
)


def documents(units: int, rows: int = 1, seed: int = 0, effect: float = 0.1):
    """Differences [rows, units] whose ratio to tokens [units] is ``effect``, skewed noise."""
    rng = np.random.default_rng(seed)
    t = rng.integers(20, 400, units)
    noise = rng.exponential(size=(rows, units)) - 1.0
    return effect * t + noise * np.sqrt(t), t


def ends(interval: Interval) -> list[float | None]:
    return [interval.estimate, interval.low, interval.high]


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_interval_is_that_of_scipys_paired_bca(confidence: float) -> None:
    d, t = documents(37)
    expected = bootstrap(
        (d[0], t),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=999,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.Generator(np.random.PCG64(5)),
    ).confidence_interval
    got = ratio_interval(d[0], t, 999, confidence, seed=5)
    assert got.estimate == pytest.approx(d.sum() / t.sum(), rel=1e-14)
    assert got.low == pytest.approx(expected.low, rel=1e-12)
    assert got.high == pytest.approx(expected.high, rel=1e-12)
    assert got.bounds == (got.low, got.high)


def test_a_row_does_not_depend_on_its_company_nor_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d, t = documents(30, rows=4)
    together, p_together = ratio_intervals(d, t, 500, seed=3), paired_p_values(d, 500, seed=3)
    monkeypatch.setattr(significance, "_CELLS", 64)
    monkeypatch.setattr(significance, "_SIGNS", 1_000)
    assert [ratio_interval(row, t, 500, seed=3) for row in d] == together
    assert [paired_p_value(row, 500, seed=3) for row in d] == p_together
    assert ratio_interval(d[0], t, 500, seed=4) != together[0]


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    trials, confidence, covered = 300, 0.9, 0
    for trial in range(trials):
        d, t = documents(40, seed=trial)
        got = ratio_interval(d[0], t, 499, confidence, seed=trial)
        assert got.bounds is not None
        covered += got.bounds[0] <= 0.1 <= got.bounds[1]
    # Three standard errors of a share of 0.9 in 300 trials, and a little for small skewed samples.
    assert 0.83 <= covered / trials <= 0.952


@pytest.mark.parametrize("slope", [0.0, 0.1, -1 / 3])
def test_a_constant_ratio_has_an_interval_without_width(slope: float) -> None:
    t = np.array([7, 11, 13, 501])
    got = ratio_interval(slope * t, t, 200)
    assert got.low == got.high == got.estimate == pytest.approx(slope)


def test_a_constant_row_beside_others_leaves_them_alone() -> None:
    d, t = documents(20, rows=2)
    d[0] = 0.0
    got = ratio_intervals(d, t, 300)
    assert ends(got[0]) == [0.0, 0.0, 0.0]
    assert got[1] == ratio_interval(d[1], t, 300)


@pytest.mark.parametrize("units", [0, 1])
def test_fewer_than_two_units_have_no_interval(units: int) -> None:
    got = ratio_interval(np.full(units, 3.0), np.full(units, 6))
    assert ends(got) == [0.5 if units else None, None, None]
    assert got.bounds is None
    assert not got.excludes_zero()


def test_units_without_tokens_are_left_out() -> None:
    d, t = documents(20)
    padded = ratio_interval(np.append(d[0], [0.0, 0.0]), np.append(t, [0, 0]), 300)
    assert padded == ratio_interval(d[0], t, 300)


def test_no_rows_have_no_intervals() -> None:
    assert ratio_intervals(np.zeros((0, 5)), np.ones(5)) == []
    assert paired_p_values(np.zeros((0, 5))) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_give_none_and_leave_the_rest(bad: float) -> None:
    d, t = documents(20, rows=2)
    alone = ratio_interval(d[1], t, 300)
    d[0, 4], d[0, 5] = bad, -bad
    assert ends(ratio_intervals(d, t, 300)[0]) == [None] * 3
    assert ratio_intervals(d, t, 300)[1] == alone
    assert paired_p_values(d, 300) == [None, paired_p_value(d[1], 300)]


def test_where_bca_is_undefined_the_percentile_interval_stands_in() -> None:
    d, t = documents(25)
    estimate = d.sum() / t.sum()
    for seed in range(10):
        draws = np.random.Generator(np.random.PCG64(seed)).integers(0, 25, (2, 25))
        resampled = d[0][draws].sum(-1) / t[draws].sum(-1)
        if np.all(resampled > estimate) or np.all(resampled < estimate):
            break
    else:
        pytest.fail("no seed puts both resamples on one side")
    got = ratio_interval(d[0], t, 2, seed=seed)
    expected = np.quantile(resampled, [0.025, 0.975])
    assert [got.low, got.high] == pytest.approx(expected.tolist(), rel=1e-12)


def test_many_units_get_the_percentile_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    d, t = documents(30)
    bca = ratio_interval(d[0], t, 400)
    monkeypatch.setattr(significance, "MOST_UNITS_FOR_BCA", 29)
    draws = np.random.Generator(np.random.PCG64(0)).integers(0, 30, (400, 30))
    expected = np.quantile(d[0][draws].sum(-1) / t[draws].sum(-1), [0.025, 0.975])
    got = ratio_interval(d[0], t, 400)
    assert [got.low, got.high] == pytest.approx(expected.tolist(), rel=1e-12)
    assert got != bca


def test_memory_is_bounded() -> None:
    d, t = documents(2_000, rows=5)
    ratio_intervals(d[:, :10], t[:10], 10)
    tracemalloc.start()
    ratio_intervals(d, t, 2_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All the draws at once would be 2,000 x 2,000 indices of 8 bytes: 32 MB.
    assert peak < 20e6


def test_p_value_of_few_units_is_exact() -> None:
    d = np.array([0.3, -0.1, 0.9, 0.45, -0.2, 0.7])
    sums = [abs(np.dot(s, d)) for s in itertools.product([-1, 1], repeat=6)]
    expected = np.mean([s >= abs(d.sum()) - 1e-12 for s in sums])
    assert 0 < expected < 1
    assert paired_p_value(d, resamples=64) == pytest.approx(expected, rel=1e-12)
    assert paired_p_value(-d, resamples=64, seed=9) == pytest.approx(expected, rel=1e-12)
    assert paired_p_value(np.full(6, 0.2), resamples=64) == 2 / 64


def test_p_value_of_many_units_is_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.12, 1.0, 300)
    expected = 2 * norm.sf(abs(d.sum()) / np.sqrt((d**2).sum()))
    assert paired_p_value(d, 9_999) == pytest.approx(expected, abs=0.015)
    assert paired_p_value(d + 10, 999) == 2 / 1_000


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
    assert paired_p_value(d, 999, seed=5) == pytest.approx(expected, rel=1e-12)
    assert paired_p_value(d, 999, seed=6) != paired_p_value(d, 999, seed=5)


def test_p_values_of_no_effect_are_uniform() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 25)) * rng.exponential(size=25)
    p = np.array(paired_p_values(rows, 999))
    assert kstest(p, "uniform").pvalue > 0.01
    assert 0.02 < (p <= 0.05).mean() < 0.09


def test_no_difference_and_single_units_have_p_one() -> None:
    assert paired_p_value(np.zeros(5), 100) == 1.0
    assert paired_p_value(np.zeros(500), 100) == 1.0
    assert paired_p_value([4.0]) == 1.0
    assert paired_p_value([]) == 1.0
    assert paired_p_value([math.nan]) is None


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
    assert got.controls == ratio_interval(mean, t, 500, 0.9, seed=2)
    assert got.excess == ratio_interval(d - mean, t, 500, 0.9, seed=2)
    assert got.importance_ratio == pytest.approx(d.sum() / mean.sum(), rel=1e-12)
    assert got.p_value == 1 / 21


def test_importance_ratio_needs_controls_that_do_something() -> None:
    (d,), t = documents(30, effect=0.5)
    idle = versus_controls(d, np.zeros((3, 30)), t, 300)
    assert idle.importance_ratio is idle.p_value is None
    assert idle.excess == ratio_interval(d, t, 300)
    noisy, _ = documents(30, rows=1, seed=3, effect=0.0)
    vague = versus_controls(d, noisy, t, 300)
    assert not vague.controls.excludes_zero()
    assert vague.importance_ratio is None
    broken = versus_controls(d, np.full((3, 30), np.nan), t, 300)
    assert broken.controls == broken.excess == Interval(None, None, None)
    assert broken.importance_ratio is None


def test_blocks_grow_with_the_cube_root() -> None:
    lengths = {0: 1, 1: 1, 2: 2, 8: 2, 9: 3, 27: 3, 28: 4, 64: 4, 125: 5, 1000: 10, 1001: 11}
    assert {n: block_length(n) for n in lengths} == lengths
    for root in (17, 99, 1_001):
        assert [block_length(root**3 + i) for i in (-1, 0, 1)] == [root, root, root + 1]


def test_block_labels_are_runs_of_that_length() -> None:
    assert block_labels(10).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert block_labels(0).tolist() == []
