"""Counts and figures against lists written by hand and against the definitions, spelt out."""

from __future__ import annotations

import random
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from harness.writing.degeneration import (
    FIGURES,
    counts_of,
    degeneration,
    ends_in_loop,
    repetition,
)
from tests.writing.continuing import continuations


def grams(ids: list[int], n: int) -> Counter[str]:
    """n-grams as text, with their numbers: nothing of how the harness counts them."""
    return Counter(" ".join(map(str, ids[i : i + n])) for i in range(len(ids)) if i + n <= len(ids))


def loops(ids: list[int]) -> bool:
    """The definition word by word: some k, and each token of the tail after its first k."""
    for k in range(1, len(ids) + 1):
        tail = max(3 * k, 12)
        if tail <= len(ids) and all(ids[-i] == ids[-i - k] for i in range(1, tail - k + 1)):
            return True
    return False


def by_definition(texts: list[list[int]]) -> dict[str, float | None]:
    """All figures in exact fractions."""
    each = [[grams(ids, n) for n in (1, 2, 3, 4)] for ids in texts]
    reps = [1 - Fraction(len(g[3]), g[3].total()) for g in each if g[3]]
    different = [sum(len(g[n]) for g in each) for n in range(4)]
    total = [sum(g[n].total() for g in each) for n in range(4)]
    kept = [Fraction(a, b) if b else None for a, b in zip(different, total, strict=True)]
    return {
        "seq_rep_4": float(sum(reps) / len(reps)) if reps else None,
        "distinct_2": different[1] / total[0] if total[0] else None,
        "diversity": float(kept[1] * kept[2] * kept[3]) if total[3] else None,
        "loop_rate": sum(map(loops, texts)) / len(texts) if texts else None,
    }


@pytest.mark.parametrize("seed", range(40))
def test_figures_are_those_of_the_definitions(seed: int) -> None:
    texts = continuations(seed + 3, seed)
    got = degeneration(map(repetition, texts))
    assert list(got) == list(FIGURES) == ["seq_rep_4", "distinct_2", "diversity", "loop_rate"]
    assert got == pytest.approx(by_definition(texts), rel=1e-12)


@pytest.mark.parametrize("ids", continuations(60, seed=1))
def test_counts_are_those_of_plain_counting(ids: list[int]) -> None:
    counted = [grams(ids, n) for n in (1, 2, 3, 4)]
    total = [found.total() for found in counted]
    assert repetition(ids) == (*total, *map(len, counted), loops(ids))
    assert total[0] == len(ids)


@pytest.mark.parametrize(
    ("ids", "ngrams", "unique"),
    [
        ([], (0, 0, 0, 0), (0, 0, 0, 0)),
        ([7], (1, 0, 0, 0), (1, 0, 0, 0)),
        ([7, 7, 7], (3, 2, 1, 0), (1, 1, 1, 0)),
        ([5] * 6, (6, 5, 4, 3), (1, 1, 1, 1)),
        ([1, 2, 1, 2, 1, 2], (6, 5, 4, 3), (2, 2, 2, 2)),
        ([1, 2, 3, 4, 1, 2, 3, 4], (8, 7, 6, 5), (4, 4, 4, 4)),
        ([1, 2, 3, 4, 5], (5, 4, 3, 2), (5, 4, 3, 2)),
    ],
)
def test_counts_written_by_hand(
    ids: list[int], ngrams: tuple[int, ...], unique: tuple[int, ...]
) -> None:
    assert repetition(ids) == (*ngrams, *unique, False)


def test_figures_written_by_hand() -> None:
    texts = [[1, 2, 3, 4, 1, 2, 3, 4], [9] * 13, [3], []]
    assert degeneration(map(repetition, texts)) == pytest.approx(
        {
            "seq_rep_4": (1 / 5 + 9 / 10) / 2,  # the last two have no 4-gram
            "distinct_2": (4 + 1) / (8 + 13 + 1),
            "diversity": (4 + 1) / (7 + 12) * (4 + 1) / (6 + 11) * (4 + 1) / (5 + 10),
            "loop_rate": 1 / 4,
        }
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], [None, None, None, None]),
        ([[], []], [None, None, None, 0.0]),
        ([[1, 2, 3]], [None, 2 / 3, None, 0.0]),
        ([[1, 2, 3, 4]], [0.0, 3 / 4, 1.0, 0.0]),
    ],
)
def test_what_is_not_defined_is_none(texts: list[list[int]], expected: list[float | None]) -> None:
    assert list(degeneration(map(repetition, texts)).values()) == expected


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([4] * 12, True),
        ([4] * 11, False),
        ([1, *[4] * 12], True),
        ([*[4] * 40, 1], False),  # it got out
        ([1, 2] * 6, True),
        ([1, 2] * 5 + [1], False),
        ([9, 8] + [1, 2, 3, 4, 5] * 3, True),
        ([9, 8] + [1, 2, 3, 4, 5] * 2 + [1, 2, 3, 4], False),
        ([3, 4, 5] + [1, 2, 3, 4, 5] * 2 + [1, 2], True),  # 15 tokens that start within the cycle
        ([4, 5] + [1, 2, 3, 4, 5] * 2 + [1, 2], False),  # 14
        ([2, 3, 4, 5, 1] * 2 + [2, 3], False),  # 12 tokens, but not three times
        ([1, 1, 2] * 4, True),
        (list(range(7)) * 3, True),
        (list(range(100)) * 2, False),
        (list(range(50)), False),
    ],
)
def test_loops_written_by_hand(ids: list[int], expected: bool) -> None:
    assert ends_in_loop(ids) is loops(ids) is expected


def test_loops_are_found_fast() -> None:
    ids = [0] * 4000
    ids[-2] = 1  # nearly every cycle fits the last token, and none fits
    start = time.perf_counter()
    assert not ends_in_loop(ids)
    assert time.perf_counter() - start < 1.0


def test_ids_may_be_large_or_a_tuple() -> None:
    assert repetition((2**40, 1, 2**40, 1)) == (4, 3, 2, 1, 2, 2, 2, 1, False)


def test_many_selections_at_once_are_each_one_alone() -> None:
    texts = continuations(20, seed=3)
    counts = counts_of(map(repetition, texts))
    assert counts.shape == (9, 20)
    assert counts.dtype == np.int64
    rng = random.Random(0)
    draws = [[rng.randrange(20) for _ in range(20)] for _ in range(6)]
    for name, figure in FIGURES.items():
        together = figure(counts[:, np.array(draws).reshape(2, 3, 20)])
        assert together.shape == (2, 3)
        alone = [by_definition([texts[i] for i in draw])[name] for draw in draws]
        assert together.ravel().tolist() == pytest.approx(alone, rel=1e-12)


def test_the_order_of_the_texts_is_of_no_account() -> None:
    texts = continuations(30, seed=5)
    there = degeneration(map(repetition, texts))
    back = degeneration(map(repetition, reversed(texts)))
    assert there == pytest.approx(back, rel=1e-14)
