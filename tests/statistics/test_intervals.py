"""Intervals against plain jackknives, scipy's t-test, and how often they cover what is true."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import bootstrap, skew, t, ttest_1samp

from harness.statistics.intervals import Interval, block_length, jackknife, ratio_intervals
from tests.statistics.paired import NOISE, documents, sizes

UNITS = [2, 3, 5, 8, 20, 200]


def ends(interval: Interval) -> list[float | None]:
    return [interval.estimate, interval.low, interval.high]


def covered(
    trials: int, units: int, noise: str, spread: float = 0.0, confidence: float = 0.95
) -> float:
    """Percentage of samples whose interval covers the effect of 0.1 nats per token."""
    rng = np.random.default_rng(units)
    hits = 0
    for _ in range(trials):
        tokens = sizes(rng, units, spread)
        d = tokens * (0.1 + NOISE[noise](rng, (units,)))
        (got,) = ratio_intervals([d], tokens, confidence)
        assert got.bounds is not None
        hits += got.bounds[0] <= 0.1 <= got.bounds[1]
    return 100 * hits / trials


@pytest.mark.parametrize("units", UNITS)
def test_intervals_of_well_behaved_documents_cover_what_they_say(units: int) -> None:
    # Three standard errors of a share of 95 % in 3,000 samples are 1.2 %; up to 1 % too many.
    assert 93.8 <= covered(3000, units, "normal") <= 97.3
    assert 78 <= covered(2000, units, "normal", confidence=0.8) <= 85


@pytest.mark.parametrize(
    ("noise", "spread", "least", "most"),
    [
        ("heavy", 0.0, 93.5, 98.5),
        ("normal", 0.5, 93, 98.5),  # documents of unequal size
        ("normal", 1.0, 93, 99),
        ("mildly skewed", 0.0, 91.5, 97.5),
        ("exponential", 0.0, 88.5, 97),
        ("skewed", 0.0, 84, 97),
    ],
)
@pytest.mark.parametrize("units", UNITS)
def test_intervals_never_cover_much_less(
    units: int, noise: str, spread: float, least: float, most: float
) -> None:
    assert least <= covered(1500, units, noise, spread) <= most


def test_the_bootstrap_would_cover_less() -> None:
    """Why it is not used: the same samples, by scipy's BCa."""
    rng = np.random.default_rng(0)
    rows = rng.lognormal(0, 1, (300, 8)) - math.exp(0.5)
    result = bootstrap((rows,), np.mean, axis=-1, n_resamples=999, rng=rng)
    low, high = result.confidence_interval
    ours = ratio_intervals(rows, np.ones(8))
    assert np.mean((low <= 0) & (high >= 0)) < 0.82
    assert np.mean([i.bounds[0] <= 0 <= i.bounds[1] for i in ours if i.bounds]) > 0.84


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_of_equal_documents_without_skew_it_is_the_interval_of_the_t_test(
    confidence: float,
) -> None:
    d = np.array([-3.0, -1.0, 0.5, 2.0, 3.5, 5.5]) - 0.0
    d = np.concatenate([d, 2.5 - d])  # symmetric
    expected = ttest_1samp(d / 7, 0).confidence_interval(confidence)
    (got,) = ratio_intervals([d], np.full(12, 7), confidence)
    assert got.estimate == pytest.approx(d.mean() / 7)
    assert got.bounds == pytest.approx((expected.low, expected.high), rel=1e-12)


@pytest.mark.parametrize("side", [1, -1])
def test_interval_of_unequal_skewed_documents_is_that_of_a_plain_jackknife(side: int) -> None:
    _, tokens = documents(37)
    d = side * tokens * NOISE["skewed"](np.random.default_rng(0), (37,))
    estimate, n = d.sum() / tokens.sum(), len(d)
    pulls = []
    for left_out in range(n):
        kept = [i for i in range(n) if i != left_out]
        pulls.append(estimate - sum(d[i] for i in kept) / sum(tokens[i] for i in kept))
    error = np.sqrt((n - 1) / n * np.sum((np.array(pulls) - np.mean(pulls)) ** 2))
    effective = tokens.sum() ** 2 / np.sum(tokens.astype(float) ** 2)
    assert 20 < effective < 36
    q = t.ppf(0.975, effective - 1)
    shift = skew(pulls) * (1 + 2 * q**2) / (6 * np.sqrt(effective)) * error
    (got,) = ratio_intervals([d], tokens)
    assert got.low == pytest.approx(estimate - q * error + min(0, shift), rel=1e-9)
    assert got.high == pytest.approx(estimate + q * error + max(0, shift), rel=1e-9)
    assert side * shift > 0.3 * error


def test_one_document_that_weighs_nearly_all_tells_as_little_as_one_of_two() -> None:
    d, tokens = np.array([500.0, 3.0, -2.0, 1.0]), np.array([1000, 10, 10, 10])
    total, all_tokens = d.sum(), tokens.sum()
    spread = jackknife((total - d) / (all_tokens - tokens), tokens, 0.95, 0.0)
    assert min(spread.below, spread.above) == pytest.approx(
        t.ppf(0.975, 1) * math.sqrt(spread.variance), rel=1e-9
    )


def test_a_row_does_not_depend_on_its_company() -> None:
    d, tokens = documents(301, rows=4)
    together = ratio_intervals(d, tokens)
    assert [ratio_intervals(row, tokens) for row in d[:, None]] == [[i] for i in together]
    assert ratio_intervals(np.asfortranarray(d), tokens) == together


@pytest.mark.parametrize("slope", [0.0, 0.1, -1 / 3])
def test_a_constant_ratio_has_an_interval_without_width(slope: float) -> None:
    tokens = np.array([7, 11, 13, 501])
    (got,) = ratio_intervals([slope * tokens], tokens)
    assert got.low == got.high == got.estimate == pytest.approx(slope)


@pytest.mark.parametrize("units", [0, 1])
def test_fewer_than_two_units_have_no_interval(units: int) -> None:
    (got,) = ratio_intervals(np.full((1, units), 3.0), np.full(units, 6))
    assert ends(got) == [0.5 if units else None, None, None]
    assert got.bounds is None
    assert not got.excludes_zero()


def test_zero_is_excluded_from_either_side() -> None:
    assert Interval(1.0, 0.5, 2.0).excludes_zero()
    assert Interval(-1.0, -1.5, -0.1).excludes_zero()
    assert not Interval(1.0, -0.5, 2.0).excludes_zero()
    assert not Interval(0.0, 0.0, 0.0).excludes_zero()


def test_units_without_tokens_are_left_out() -> None:
    d, tokens = documents(20)
    padded = ratio_intervals([[*d[0], 0.0, 0.0]], [*tokens, 0, 0])
    assert padded == ratio_intervals(d, tokens)


def test_no_rows_have_no_intervals() -> None:
    assert ratio_intervals(np.zeros((0, 5)), np.ones(5)) == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rows_that_are_not_finite_give_none_and_leave_the_rest(bad: float) -> None:
    d, tokens = documents(20, rows=2)
    alone = ratio_intervals(d[1:], tokens)
    d[0, 4], d[0, 5] = bad, -bad
    assert ratio_intervals(d, tokens) == [Interval(None, None, None), *alone]


def test_memory_is_bounded() -> None:
    d, tokens = documents(10_000, rows=50)
    ratio_intervals(d[:, :10], tokens[:10])
    tracemalloc.start()
    ratio_intervals(d, tokens)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The rows once more are 4 MB; the same of each row at once would be several times that.
    assert peak < 6e6


def test_blocks_grow_with_the_cube_root() -> None:
    lengths = {0: 1, 1: 1, 2: 2, 8: 2, 9: 3, 27: 3, 28: 4, 64: 4, 125: 5, 1000: 10, 1001: 11}
    assert {n: block_length(n) for n in lengths} == lengths
    for root in (17, 99, 1_001):
        assert [block_length(root**3 + i) for i in (-1, 0, 1)] == [root, root, root + 1]
