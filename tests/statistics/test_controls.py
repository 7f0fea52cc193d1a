"""Variants beside random controls: rank, ratio, and intervals that hold under random selections."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from harness.statistics.controls import ControlComparison, control_p_value, versus_controls
from harness.statistics.intervals import Interval, ratio_intervals
from tests.statistics.paired import documents, selections


def test_control_p_value_is_a_rank() -> None:
    controls = [i / 100 for i in range(19)]
    assert control_p_value(1.0, controls) == 1 / 20
    assert control_p_value(0.18, controls) == 2 / 20
    assert control_p_value(-1.0, controls) == 1.0
    assert control_p_value(1.0, controls[1:]) is None
    assert control_p_value(None, controls) is control_p_value(math.nan, controls) is None
    assert control_p_value(1.0, [*controls[2:], math.nan, None]) == 3 / 20


# -- random selections, which a variant must not be told from --------------------------------------


def holds(interval: Interval, truth: float) -> bool:
    assert interval.bounds is not None
    return interval.bounds[0] <= truth <= interval.bounds[1]


@pytest.mark.parametrize("between", [0.0, 2.0])
@pytest.mark.parametrize("units", [5, 40])
@pytest.mark.parametrize("controls", [2, 3, 5, 19])
def test_of_random_selections_the_excess_and_the_rank_keep_their_level(
    controls: int, units: int, between: float
) -> None:
    rng = np.random.default_rng(controls)
    found: list[ControlComparison] = []
    for _ in range(1500):
        d, tokens = selections(rng, controls + 1, units, between)
        found.append(versus_controls(d[0], d[1:], tokens))
    excluded = 100 * np.mean([not holds(each.excess, 0.0) for each in found])
    assert 1.5 <= excluded <= 6.5, excluded
    if controls == 19:
        surprising = 100 * np.mean([each.p_value <= 0.05 for each in found])
        assert 3.3 <= surprising <= 6.7, surprising
    # Documents and selections differ by chance from what they are on average: 0.3.
    missed = 100 * np.mean([not holds(each.controls, 0.3) for each in found])
    assert missed <= 7, missed


@pytest.mark.parametrize("units", [40, 400])
def test_documents_alone_would_call_a_random_selection_special(units: int) -> None:
    """Why the spread between controls is in the interval: more documents make it worse."""
    rng = np.random.default_rng(0)
    excluded = 0
    for _ in range(200):
        d, tokens = selections(rng, 20, units, 3.0)
        (over_documents,) = ratio_intervals([d[0] - d[1:].mean(0)], tokens)
        excluded += over_documents.excludes_zero()
    assert excluded / 200 > 0.3


@pytest.mark.parametrize("uneven", [1.0, 3.0, 30.0])
@pytest.mark.parametrize("units", [5, 40])
@pytest.mark.parametrize("controls", [2, 3, 19])
def test_the_excess_of_a_variant_is_covered(controls: int, units: int, uneven: float) -> None:
    """Also of one that acts on documents far more unevenly than its controls."""
    rng = np.random.default_rng(controls)
    hits = 0
    for _ in range(1000):
        d, tokens = selections(rng, controls + 1, units, 1.0, (3.0, uneven))
        hits += holds(versus_controls(d[0], d[1:], tokens).excess, 3.0)
    assert hits / 1000 >= 0.925


def test_a_real_effect_beside_few_controls_is_found() -> None:
    rng = np.random.default_rng(0)
    d, tokens = selections(rng, 4, 60, 0.5, (3.0, 2.0))
    assert versus_controls(d[0], d[1:], tokens).excess.excludes_zero()


# -- one comparison, figure by figure --------------------------------------------------------------


def test_of_much_the_same_documents_the_excess_is_that_of_a_t_test() -> None:
    """The variant a further draw of the controls: t with K - 1 degrees, variance s² (1 + 1/K)."""
    tokens = np.full(50, 100)
    deltas = np.array([0.02, 0.05, -0.01, 0.03])
    d = 0.2 * tokens
    found = versus_controls(d, deltas[:, None] * tokens, tokens, 0.9)
    error, q = deltas.std(ddof=1), t.ppf(0.95, 3)
    half = q * error * math.sqrt(1 + 1 / 4)
    excess = 0.2 - deltas.mean()
    assert found.excess.estimate == pytest.approx(excess)
    assert found.excess.bounds == pytest.approx((excess - half, excess + half))
    half = q * error / 2
    mean = deltas.mean()
    assert found.controls.estimate == pytest.approx(mean)
    assert found.controls.bounds == pytest.approx((mean - half, mean + half))
    assert (found.lowest, found.highest) == pytest.approx((-0.01, 0.05))


def test_both_spreads_are_those_of_plain_sums() -> None:
    """With spread between selections, between documents, and in both at once."""
    d, tokens = selections(np.random.default_rng(4), 6, 12, 2.0, (1.0, 3.0))
    variant, controls = d[0], d[1:]
    found = versus_controls(variant, controls, tokens)
    k, mean, total = 5, controls.mean(0), tokens.sum()

    def jackknifed(row: np.ndarray) -> float:
        without = [(row.sum() - x) / (total - n) for x, n in zip(row, tokens, strict=True)]
        return 11 / 12 * float(np.sum((without - np.mean(without)) ** 2))

    of_selections = (controls.sum(-1) / total).var(ddof=1)
    in_both = sum(jackknifed(row - mean) for row in controls) / (k - 1)
    for got, row, times in (
        (found.excess, variant - mean, 1 + 1 / k),
        (found.controls, mean, 1 / k),
    ):
        (alone,) = ratio_intervals([row], tokens)
        left = max(0.0, 1 - times * in_both / jackknifed(row))
        drawn = t.ppf(0.975, k - 1) ** 2 * times * of_selections
        assert got.estimate == alone.estimate
        for end, other in ((got.low, alone.low), (got.high, alone.high)):
            half = math.sqrt(drawn + left * (other - alone.estimate) ** 2)
            assert abs(end - got.estimate) == pytest.approx(half, rel=1e-9)


def test_one_control_or_one_document_tells_of_no_spread() -> None:
    (d,), tokens = documents(30, effect=0.5)
    controls, _ = documents(30, rows=2, seed=7)
    for found in (
        versus_controls(d, controls[:1], tokens),
        versus_controls(d[:1], controls[:, :1], tokens[:1]),
    ):
        assert found.excess.estimate is not None
        assert found.controls.estimate is not None
        assert found.excess.bounds is found.controls.bounds is None
        assert found.importance_ratio is None


@pytest.mark.parametrize(("controls", "given"), [(3, False), (18, False), (19, True)])
def test_a_ratio_needs_many_controls(controls: int, given: bool) -> None:
    (d,), tokens = documents(30, effect=0.5)
    each = np.linspace(0.09, 0.11, controls)[:, None] * tokens
    found = versus_controls(d, each, tokens)
    assert found.controls.excludes_zero()
    expected = pytest.approx(d.sum() / each.mean(0).sum(), rel=1e-12) if given else None
    assert found.importance_ratio == expected
    assert found.p_value == (1 / 20 if given else None)


def test_a_ratio_needs_a_mean_that_is_told_from_zero() -> None:
    tokens = np.full(30, 100.0)
    d = 0.5 * tokens
    # As much as three controls of a real model: +0.091, +0.024, +0.555.
    vague = np.resize([0.091, 0.024, 0.555], 19)[:, None] - 0.2
    found = versus_controls(d, vague * tokens, tokens)
    assert not found.controls.excludes_zero()
    assert found.importance_ratio is None
    still = versus_controls(d, np.zeros((19, 30)), tokens)
    assert still.controls == Interval(0.0, 0.0, 0.0)
    assert still.importance_ratio is None
    assert [still.excess] == ratio_intervals([d], tokens)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_none(bad: float) -> None:
    (d,), tokens = documents(30, effect=0.5)
    controls, _ = documents(30, rows=19, seed=7)
    nothing = Interval(None, None, None)
    broken = versus_controls(np.full(30, bad), controls, tokens)
    assert broken.excess == nothing
    assert broken.controls.bounds is not None
    assert broken.importance_ratio is broken.p_value is None
    controls[3, 4] = bad
    for variant in (d, np.full(30, bad)):
        found = versus_controls(variant, controls, tokens)
        assert found.controls == found.excess == nothing
        assert found.lowest is found.highest is found.importance_ratio is None
