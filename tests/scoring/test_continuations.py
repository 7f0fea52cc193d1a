"""Intervals over prompts against quantiles of plain draws, simulation and pairing; departures."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

import harness
from harness.scoring import continuations as module
from harness.scoring.continuations import (
    degeneration_differences,
    degeneration_intervals,
    departure,
    first_divergence,
)
from harness.scoring.degeneration import FIGURES, Counts, degeneration, repetition, tally
from harness.scoring.intervals import Interval
from tests.scoring.continuing import continuations

PROMPTS = Path(harness.__file__).parent.parent / "configs" / "prompts"


def counted(texts: list[list[int]]) -> Counts:
    return tally(map(repetition, texts))


def damaged(texts: list[list[int]], seed: int = 0) -> list[list[int]]:
    """The same texts, a fifth of them sent into a loop."""
    rng = random.Random(seed)
    return [ids + [1, 2] * 8 if rng.random() < 0.2 else list(ids) for ids in texts]


def width(interval: Interval) -> float:
    assert interval.bounds is not None
    return interval.bounds[1] - interval.bounds[0]


def test_estimates_are_the_figures_and_lie_inside() -> None:
    texts = continuations(40)
    got = degeneration_intervals(counted(texts), 500)
    figures = degeneration(map(repetition, texts))
    assert {name: interval.estimate for name, interval in got.items()} == figures
    for interval in got.values():
        assert interval.bounds is not None
        assert 0 <= interval.bounds[0] < interval.estimate < interval.bounds[1] <= 1


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_intervals_are_those_of_scipys_bca(confidence: float) -> None:
    """Of one figure, computed of the texts themselves and not of counts."""
    texts = continuations(15, seed=2)
    other = damaged(texts, seed=1)

    def difference(prompts: np.ndarray) -> float:
        ours, theirs = ([repetition(side[i]) for i in prompts] for side in (other, texts))
        return degeneration(ours)["distinct_2"] - degeneration(theirs)["distinct_2"]

    expected = bootstrap(
        (np.arange(15),),
        difference,
        vectorized=False,
        n_resamples=300,
        confidence_level=confidence,
        method="BCa",
        rng=np.random.Generator(np.random.PCG64(5)),
    ).confidence_interval
    got = degeneration_differences(counted(other), counted(texts), 300, confidence, seed=5)
    assert got["distinct_2"].bounds == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_many_prompts_get_the_percentile_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = continuations(30, seed=4)
    bca = degeneration_intervals(counted(texts), 400)
    monkeypatch.setattr(module, "MOST_UNITS_FOR_BCA", 29)
    got = degeneration_intervals(counted(texts), 400)
    draws = np.random.Generator(np.random.PCG64(0)).integers(0, 30, (400, 30))
    drawn = [degeneration(repetition(texts[i]) for i in draw) for draw in draws]
    for name in FIGURES:
        expected = np.quantile([figures[name] for figures in drawn], [0.025, 0.975])
        assert got[name].bounds == pytest.approx(tuple(expected), rel=1e-9)
        assert got[name] != bca[name]


def test_nothing_depends_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = counted(continuations(30))
    together = degeneration_intervals(counts, 300)
    monkeypatch.setattr(module, "_CELLS", 64)
    assert degeneration_intervals(counts, 300) == together
    assert degeneration_intervals(counts, 300, seed=1) != together


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    everything = continuations(3000, seed=9)
    truth = degeneration(map(repetition, everything))
    records = [repetition(ids) for ids in everything]
    rng, trials = random.Random(1), 200
    covered = dict.fromkeys(FIGURES, 0)
    for trial in range(trials):
        got = degeneration_intervals(tally(rng.choices(records, k=60)), 299, 0.9, trial)
        for name, interval in got.items():
            assert interval.bounds is not None
            covered[name] += interval.bounds[0] <= truth[name] <= interval.bounds[1]
    # Three standard errors of a share of 0.9 in 200 trials, and a little for small samples.
    assert all(0.82 <= count / trials <= 0.965 for count in covered.values()), covered


def test_pairing_makes_the_interval_of_a_difference_narrow() -> None:
    texts = continuations(60, seed=7)
    original, variant = counted(texts), counted(damaged(texts))
    paired = degeneration_differences(variant, original, 500)
    shuffled = variant[:, np.random.default_rng(0).permutation(60)]
    unpaired = degeneration_differences(shuffled, original, 500)
    for name in FIGURES:
        assert paired[name].estimate == pytest.approx(unpaired[name].estimate, rel=1e-12)
        assert width(paired[name]) < 0.8 * width(unpaired[name])
    assert paired["loop_rate"].excludes_zero()
    assert paired["loop_rate"].estimate > 0 > paired["diversity"].estimate


def test_a_difference_is_that_of_the_two_figures() -> None:
    texts = continuations(25, seed=8)
    ours, theirs = counted(damaged(texts)), counted(texts)
    got = degeneration_differences(ours, theirs, 50)
    a, b = degeneration_intervals(ours, 50), degeneration_intervals(theirs, 50)
    for name in FIGURES:
        assert got[name].estimate == a[name].estimate - b[name].estimate


def test_the_same_texts_differ_by_exactly_nothing() -> None:
    counts = counted(continuations(20))
    got = degeneration_differences(counts, counts.copy(), 200)
    assert got == dict.fromkeys(FIGURES, Interval(0.0, 0.0, 0.0))


def test_the_same_in_every_prompt_has_no_width() -> None:
    # Six 4-grams, four of them different: thirds, which do not add up without rounding.
    got = degeneration_intervals(counted([[1, 2, 3, 4, 1, 2, 3, 4, 1]] * 7), 200)
    for interval in got.values():
        assert interval.low == interval.high == interval.estimate
    assert got["seq_rep_4"].estimate == pytest.approx(1 / 3)


def test_where_bca_is_undefined_the_percentile_interval_stands_in() -> None:
    # One loop among many: both of two resamples may be above the estimate.
    texts = [[1] * 20] + [list(range(20))] * 30
    for seed in range(50):
        draws = np.random.Generator(np.random.PCG64(seed)).integers(0, 31, (2, 31))
        rates = (draws == 0).mean(-1)
        if (rates > 1 / 31).all():
            break
    else:
        pytest.fail("no seed puts both resamples on one side")
    got = degeneration_intervals(counted(texts), 2, seed=seed)["loop_rate"]
    assert got.bounds == pytest.approx(tuple(np.quantile(rates, [0.025, 0.975])))


def test_too_few_prompts_have_no_interval() -> None:
    nothing = Interval(None, None, None)
    assert degeneration_intervals(counted([])) == dict.fromkeys(FIGURES, nothing)
    one = counted([[1, 2, 3, 4, 5]])
    assert degeneration_intervals(one)["seq_rep_4"] == Interval(0.0, None, None)
    assert degeneration_differences(one, one)["loop_rate"] == Interval(0.0, None, None)


def test_what_a_resample_may_be_left_without_has_no_interval() -> None:
    texts = [[1, 2, 3, 1, 2, 3, 1]] + [[1, 2]] * 9
    got = degeneration_intervals(counted(texts), 200)
    assert got["seq_rep_4"] == Interval(0.25, None, None)
    assert got["diversity"].estimate is not None
    assert got["diversity"].bounds is None
    assert width(got["distinct_2"]) > 0
    assert got["loop_rate"] == Interval(0.0, 0.0, 0.0)
    difference = degeneration_differences(counted([[]] * 10), counted(texts), 200)
    assert difference["seq_rep_4"] == Interval(None, None, None)
    assert difference["loop_rate"] == Interval(0.0, 0.0, 0.0)


def test_different_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 prompts beside 4"):
        degeneration_differences(counted([[1]] * 3), counted([[1]] * 4))
    with pytest.raises(ValueError, match="zip"):
        departure([[1]], [[1], [2]])


@pytest.mark.parametrize(
    ("variant", "original", "expected"),
    [
        ([], [], None),
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2, 3], [1, 9, 3], 1),
        ([5], [6], 0),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2, 3], [1, 2], 2),
        ([], [4, 5], 0),
    ],
)
def test_divergence_written_by_hand(
    variant: list[int], original: list[int], expected: int | None
) -> None:
    assert first_divergence(variant, original) == expected


def test_divergence_is_where_the_common_beginning_ends() -> None:
    rng = random.Random(0)
    for _ in range(200):
        a, b = ([rng.randrange(2) for _ in range(rng.randint(0, 6))] for _ in range(2))
        common = max(n for n in range(7) if a[:n] == b[:n] and n <= min(len(a), len(b)))
        assert first_divergence(a, b) == (None if a == b else common)


def test_departure_counts_prompts() -> None:
    original = [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3]]
    got = departure([[1, 2, 3], [0, 2, 3], [1, 2, 0], [1, 2, 3, 4]], original)
    assert got.points == (None, 0, 2, 3)
    assert got.identical == 0.25
    assert got.median_point == 2.0
    same = departure(original, original)
    assert (same.identical, same.median_point) == (1.0, None)
    none = departure([], [])
    assert (none.points, none.identical, none.median_point) == ((), None, None)


def test_prompts_that_come_with_the_project() -> None:
    two = (PROMPTS / "original-experiment.txt").read_text().splitlines()
    assert two == ["Write me a article about love.", "How do I create an array in Python?"]
    lines = (PROMPTS / "general.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    prompts = [row["prompt"] for row in rows]
    assert len(prompts) == len(set(prompts)) >= 64
    assert set(two) <= set(prompts)
    assert all(set(row) == {"prompt", "kind"} and row["prompt"].strip() for row in rows)
    kinds = [row["kind"] for row in rows]
    assert set(kinds) == {"prose", "code", "facts", "lists", "dialogue", "continuation"}
    assert min(map(kinds.count, kinds)) >= 10
