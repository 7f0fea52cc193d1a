"""Likelihood against the formulas of lm-evaluation-harness, written out."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import reduce
from operator import add

import pytest

from harness.statistics.perplexity import exp_or_none, likelihood


def test_figures_equal_the_formulas_of_lm_evaluation_harness() -> None:
    nll = [312.25, 18.5, 77.125, 1024.0]
    tokens, words, size = 400, 301, 1733
    log_likelihood = -sum(nll)
    got = likelihood(nll, tokens, words, size)
    assert got.nll == pytest.approx(-log_likelihood / tokens, rel=1e-15)
    assert got.perplexity == pytest.approx(math.e ** (-log_likelihood / tokens), rel=1e-13)
    assert got.word_perplexity == pytest.approx(math.exp(-(log_likelihood / words)), rel=1e-15)
    assert got.byte_perplexity == pytest.approx(math.exp(-(log_likelihood / size)), rel=1e-15)
    assert got.bits_per_byte == pytest.approx(-log_likelihood / size / math.log(2), rel=1e-15)
    assert got.bits_per_byte == pytest.approx(math.log2(got.byte_perplexity or 0), rel=1e-13)


def test_the_total_is_exact_and_blind_to_order() -> None:
    source = random.Random(0)
    nll = [source.uniform(0, 1) * 10 ** source.randint(-12, 6) for _ in range(2_000)]
    exact = float(sum(map(Fraction, nll)))
    assert likelihood(nll, 1).nll == exact
    for _ in range(5):
        source.shuffle(nll)
        assert likelihood(nll, 1).nll == exact
    # One after the other; from Python 3.12 on, `sum` carries what rounding loses.
    assert reduce(add, nll) != exact


def test_words_and_bytes_that_are_not_covered_give_none() -> None:
    got = likelihood([2.0, 4.0], 3)
    assert (got.nll, got.perplexity) == (2.0, math.exp(2.0))
    assert got.word_perplexity is got.byte_perplexity is got.bits_per_byte is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_window_that_is_not_finite_spoils_every_figure(bad: float) -> None:
    got = likelihood([1.0, bad], 2, 2, 2)
    assert [got.nll, got.perplexity, got.word_perplexity, got.byte_perplexity] == [None] * 4
    assert got.bits_per_byte is None


def test_what_overflows_is_none_and_the_rest_stays() -> None:
    got = likelihood([5_000.0], 10, 5, 5_000)
    assert got.nll == 500.0
    assert got.perplexity == math.exp(500.0)
    assert got.word_perplexity is None
    assert got.byte_perplexity == math.e


def test_nothing_to_divide_by_is_none() -> None:
    got = likelihood([], 0, 0, 0)
    assert got.nll is got.perplexity is got.word_perplexity is got.bits_per_byte is None


def test_exp_or_none() -> None:
    assert exp_or_none(0.0) == 1.0
    assert exp_or_none(-1e9) == 0.0
    for bad in (None, math.nan, math.inf, -math.inf, 1e4):
        assert exp_or_none(bad) is None
