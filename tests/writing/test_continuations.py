"""Intervals over prompts against plain jackknives, simulation and pairing; departures."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import skew, t

import harness
from harness.statistics.intervals import Interval
from harness.writing.continuations import (
    degeneration_differences,
    degeneration_intervals,
    departure,
    first_divergence,
)
from harness.writing.degeneration import FIGURES, Counts, counts_of, degeneration, repetition
from tests.writing.continuing import continuations

PROMPTS = Path(harness.__file__).parent.parent / "configs" / "prompts"


def counted(texts: list[list[int]]) -> Counts:
    return counts_of(map(repetition, texts))


def damaged(texts: list[list[int]], seed: int = 0) -> list[list[int]]:
    """The same texts, a fifth of them sent into a loop."""
    rng = random.Random(seed)
    return [ids + [1, 2] * 8 if rng.random() < 0.2 else list(ids) for ids in texts]


def width(interval: Interval) -> float:
    assert interval.bounds is not None
    return interval.bounds[1] - interval.bounds[0]


def test_estimates_are_the_figures_and_lie_inside() -> None:
    texts = continuations(40)
    got = degeneration_intervals(counted(texts))
    figures = degeneration(map(repetition, texts))
    assert {name: interval.estimate for name, interval in got.items()} == figures
    for interval in got.values():
        assert interval.bounds is not None
        assert 0 <= interval.bounds[0] < interval.estimate < interval.bounds[1] <= 1


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize("name", FIGURES)
def test_intervals_are_those_of_a_plain_jackknife(name: str, confidence: float) -> None:
    """Of one figure, computed of the texts themselves and not of counts."""
    texts = continuations(15, seed=2)
    other = damaged(texts, seed=1)

    def difference(prompts: list[int]) -> float:
        ours, theirs = ([repetition(side[i]) for i in prompts] for side in (other, texts))
        return degeneration(ours)[name] - degeneration(theirs)[name]

    everyone = list(range(15))
    pulls = -np.array([difference([i for i in everyone if i != j]) for j in everyone])
    error = np.sqrt(14 / 15 * np.sum((pulls - pulls.mean()) ** 2))
    tokens = np.array([len(a) + len(b) for a, b in zip(other, texts, strict=True)])
    effective = tokens.sum() ** 2 / np.sum(tokens**2)
    q = t.ppf((1 + confidence) / 2, effective - 1)
    shift = skew(pulls) * (1 + 2 * q**2) / (6 * np.sqrt(effective)) * error
    estimate = difference(everyone)
    expected = (estimate - q * error + min(0, shift), estimate + q * error + max(0, shift))
    got = degeneration_differences(counted(other), counted(texts), confidence)
    assert got[name].bounds == pytest.approx(expected, rel=1e-9)


def test_intervals_end_where_figures_end() -> None:
    texts = [[1] * 20] + [list(range(20))] * 3
    got = degeneration_intervals(counted(texts))
    for interval in got.values():
        assert interval.bounds is not None
        assert 0 <= interval.bounds[0] <= interval.bounds[1] <= 1
    assert got["loop_rate"].low == 0
    other = counted(texts[1:] + texts[:1])
    differences = degeneration_differences(counted(texts), other).values()
    assert all(-1 <= i.bounds[0] < i.bounds[1] <= 1 for i in differences if i.bounds)
    assert [i.bounds for i in differences].count((-1.0, 1.0)) >= 2


@pytest.mark.parametrize(
    ("prompts", "least"),
    [(5, {"diversity": 80}), (10, {"diversity": 84}), (20, {"diversity": 90}), (60, {})],
)
def test_intervals_cover_the_truth_as_often_as_they_say(
    prompts: int, least: dict[str, float]
) -> None:
    counts = counted(continuations(3000, seed=9))
    truth = {name: float(figure(counts)) for name, figure in FIGURES.items()}
    rng, trials = np.random.default_rng(1), 400
    covered = dict.fromkeys(FIGURES, 0)
    for _ in range(trials):
        got = degeneration_intervals(counts[:, rng.integers(0, 3000, prompts)])
        for name, interval in got.items():
            # Where all tell the same there is none, and so nothing wrong is said.
            low, high = interval.bounds or (0, 1)
            covered[name] += low <= truth[name] <= high
    for name, count in covered.items():
        assert least.get(name, 91) <= 100 * count / trials, (name, count / trials)


def test_pairing_makes_the_interval_of_a_difference_narrow() -> None:
    texts = continuations(200, seed=7)
    original, variant = counted(texts), counted(damaged(texts))
    paired = degeneration_differences(variant, original)
    shuffled = variant[:, np.random.default_rng(0).permutation(200)]
    unpaired = degeneration_differences(shuffled, original)
    for name in FIGURES:
        assert paired[name].estimate == pytest.approx(unpaired[name].estimate, rel=1e-12)
        assert width(paired[name]) < 0.8 * width(unpaired[name])
        assert paired[name].excludes_zero()
    assert paired["loop_rate"].estimate > 0 > paired["diversity"].estimate


def test_three_texts_of_sixty_that_loop_are_no_proof() -> None:
    """None ceased to: a coin falls on one side three times in one of four."""
    texts = [list(range(30))] * 60
    got = degeneration_differences(counted([[1] * 30] * 3 + texts[3:]), counted(texts))
    assert not got["loop_rate"].excludes_zero()


def test_a_difference_is_that_of_the_two_figures() -> None:
    texts = continuations(25, seed=8)
    ours, theirs = counted(damaged(texts)), counted(texts)
    got = degeneration_differences(ours, theirs)
    a, b = degeneration_intervals(ours), degeneration_intervals(theirs)
    for name in FIGURES:
        assert got[name].estimate == a[name].estimate - b[name].estimate


def test_the_same_texts_differ_by_exactly_nothing() -> None:
    counts = counted(continuations(20))
    got = degeneration_differences(counts, counts.copy())
    assert got == dict.fromkeys(FIGURES, Interval(0.0, None, None))


@pytest.mark.parametrize("prompts", [2, 7])
def test_where_all_prompts_tell_the_same_no_spread_is_told(prompts: int) -> None:
    # Six 4-grams, four of them different: thirds, which do not add up without rounding.
    got = degeneration_intervals(counted([[1, 2, 3, 4, 1, 2, 3, 4, 1]] * prompts))
    assert [interval.bounds for interval in got.values()] == [None] * 4
    assert got["seq_rep_4"].estimate == pytest.approx(1 / 3)
    # Never a loop in so few texts is no proof that there is none in others.
    assert got["loop_rate"] == Interval(0.0, None, None)


def test_too_few_prompts_have_no_interval() -> None:
    nothing = Interval(None, None, None)
    assert degeneration_intervals(counted([])) == dict.fromkeys(FIGURES, nothing)
    one = counted([[1, 2, 3, 4, 5]])
    assert degeneration_intervals(one)["seq_rep_4"] == Interval(0.0, None, None)
    assert degeneration_differences(one, one)["loop_rate"] == Interval(0.0, None, None)


def test_what_hangs_on_one_prompt_has_no_interval() -> None:
    texts = [[1, 2, 3, 1, 2, 3, 1]] + [[1, 2]] * 9
    got = degeneration_intervals(counted(texts))
    assert got["seq_rep_4"] == Interval(0.25, None, None)
    assert got["diversity"].estimate is not None
    assert got["diversity"].bounds is None
    assert width(got["distinct_2"]) > 0
    assert got["loop_rate"] == Interval(0.0, None, None)
    difference = degeneration_differences(counted([[]] * 10), counted(texts))
    assert difference["seq_rep_4"] == Interval(None, None, None)
    assert difference["loop_rate"] == Interval(0.0, None, None)


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
