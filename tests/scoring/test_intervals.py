"""Intervals against scipy called plainly, quantiles of plain draws, and simulation."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap

from harness.scoring import intervals
from harness.scoring.intervals import Interval, block_length, ratio_intervals
from tests.scoring.paired import documents


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
    (got,) = ratio_intervals(d, t, 999, confidence, seed=5)
    assert got.estimate == pytest.approx(d.sum() / t.sum(), rel=1e-14)
    assert got.low == pytest.approx(expected.low, rel=1e-12)
    assert got.high == pytest.approx(expected.high, rel=1e-12)
    assert got.bounds == (got.low, got.high)


def test_a_row_does_not_depend_on_its_company_nor_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d, t = documents(30, rows=4)
    together = ratio_intervals(d, t, 500, seed=3)
    monkeypatch.setattr(intervals, "_CELLS", 64)
    assert [ratio_intervals(row, t, 500, seed=3) for row in d[:, None]] == [[i] for i in together]
    assert ratio_intervals(d[:1], t, 500, seed=4) != together[:1]


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    trials, confidence, covered = 300, 0.9, 0
    for trial in range(trials):
        d, t = documents(40, seed=trial)
        (got,) = ratio_intervals(d, t, 499, confidence, seed=trial)
        assert got.bounds is not None
        covered += got.bounds[0] <= 0.1 <= got.bounds[1]
    # Three standard errors of a share of 0.9 in 300 trials, and a little for small skewed samples.
    assert 0.83 <= covered / trials <= 0.952


@pytest.mark.parametrize("slope", [0.0, 0.1, -1 / 3])
def test_a_constant_ratio_has_an_interval_without_width(slope: float) -> None:
    t = np.array([7, 11, 13, 501])
    (got,) = ratio_intervals([slope * t], t, 200)
    assert got.low == got.high == got.estimate == pytest.approx(slope)


def test_a_constant_row_beside_others_leaves_them_alone() -> None:
    d, t = documents(20, rows=2)
    d[0] = 0.0
    got = ratio_intervals(d, t, 300)
    assert ends(got[0]) == [0.0, 0.0, 0.0]
    assert got[1:] == ratio_intervals(d[1:], t, 300)


@pytest.mark.parametrize("units", [0, 1])
def test_fewer_than_two_units_have_no_interval(units: int) -> None:
    (got,) = ratio_intervals(np.full((1, units), 3.0), np.full(units, 6))
    assert ends(got) == [0.5 if units else None, None, None]
    assert got.bounds is None
    assert not got.excludes_zero()


def test_units_without_tokens_are_left_out() -> None:
    d, t = documents(20)
    padded = ratio_intervals([[*d[0], 0.0, 0.0]], [*t, 0, 0], 300)
    assert padded == ratio_intervals(d, t, 300)


def test_no_rows_have_no_intervals() -> None:
    assert ratio_intervals(np.zeros((0, 5)), np.ones(5)) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_give_none_and_leave_the_rest(bad: float) -> None:
    d, t = documents(20, rows=2)
    alone = ratio_intervals(d[1:], t, 300)
    d[0, 4], d[0, 5] = bad, -bad
    assert ratio_intervals(d, t, 300) == [Interval(None, None, None), *alone]


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
    (got,) = ratio_intervals(d, t, 2, seed=seed)
    expected = np.quantile(resampled, [0.025, 0.975])
    assert [got.low, got.high] == pytest.approx(expected.tolist(), rel=1e-12)


def test_many_units_get_the_percentile_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    d, t = documents(30)
    (bca,) = ratio_intervals(d, t, 400)
    monkeypatch.setattr(intervals, "MOST_UNITS_FOR_BCA", 29)
    draws = np.random.Generator(np.random.PCG64(0)).integers(0, 30, (400, 30))
    expected = np.quantile(d[0][draws].sum(-1) / t[draws].sum(-1), [0.025, 0.975])
    (got,) = ratio_intervals(d, t, 400)
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


def test_blocks_grow_with_the_cube_root() -> None:
    lengths = {0: 1, 1: 1, 2: 2, 8: 2, 9: 3, 27: 3, 28: 4, 64: 4, 125: 5, 1000: 10, 1001: 11}
    assert {n: block_length(n) for n in lengths} == lengths
    for root in (17, 99, 1_001):
        assert [block_length(root**3 + i) for i in (-1, 0, 1)] == [root, root, root + 1]
