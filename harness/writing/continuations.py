"""Degeneration with intervals over prompts, and how a variant's texts depart from the original's.

The unit is the prompt. Original and variant continue the same prompts, so their difference is
paired: without a prompt, both are measured without it.

Legend: P prompts, C counts of each (``degeneration.counts_of``), F figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.statistics.intervals import NOT_FINITE, Interval, jackknife
from harness.writing.degeneration import FIGURES, Counts

# Figures lie between 0 and 1; what varies by less than this varies by rounding.
_ROUNDING = 1e-12

_Array = npt.NDArray[np.float64]
_Units = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Departure:
    """How a variant's continuations depart from the original's.

    Attributes:
        points: Per prompt the index of the first token that differs, see ``first_divergence``.
        identical: Share of prompts whose continuations are the same, 0 to 1; None without prompts.
        median_point: Median of the points, tokens; None where all continuations are the same.
    """

    points: tuple[int | None, ...]
    identical: float | None
    median_point: float | None


def degeneration_intervals(counts: Counts, confidence: float = 0.95) -> dict[str, Interval]:
    """Returns each figure of some continuations with its interval over prompts.

    This is the interval of ``intervals.jackknife``, where a prompt weighs as many tokens as were
    written after it, cut off where a figure ends, at 0 and 1. A figure that is the same whichever
    prompt is left out, as where no text loops, has none: there is no spread to tell it from, and
    other prompts may well differ.

    Measured coverage of "95 %" over texts of very different kinds: 96 to 98 % of the share of
    4-grams and of loops from 20 prompts on, diversity, which is no mean, 94 %, and 88 % of 10.

    Args:
        counts: Counts per prompt, [C, P].
        confidence: Coverage that the intervals aim at, between 0 and 1.

    Returns:
        Intervals by figure. Without ends where there are fewer than two prompts or all tell the
        same, or where without one of them nothing of what is counted is left.
    """
    return _intervals(
        FIGURES, lambda prompts: _figures(counts[:, prompts]), counts[0], (0.0, 1.0), confidence
    )


def degeneration_differences(
    variant: Counts, original: Counts, confidence: float = 0.95
) -> dict[str, Interval]:
    """Returns each figure's difference, variant minus original, with its interval over prompts.

    The difference is that of the two figures; the interval is that of ``degeneration_intervals``,
    paired by prompt. Equal counts give exactly 0, and no interval.

    Args:
        variant: The variant's counts per prompt, [C, P].
        original: The original's counts on the same prompts in the same order, [C, P].
        confidence: Coverage that the intervals aim at, between 0 and 1.

    Returns:
        Intervals by figure, with None as in ``degeneration_intervals``.

    Raises:
        ValueError: If the two are not of the same number of prompts.
    """
    if variant.shape != original.shape:
        raise ValueError(f"{variant.shape[1]} prompts beside {original.shape[1]}")

    def differences(prompts: _Units) -> _Array:
        return _figures(variant[:, prompts]) - _figures(original[:, prompts])

    tokens = variant[0] + original[0]  # their 1-grams
    return _intervals(FIGURES, differences, tokens, (-1.0, 1.0), confidence)


def nll_difference(
    variant: tuple[npt.ArrayLike, npt.ArrayLike],
    original: tuple[npt.ArrayLike, npt.ArrayLike],
    confidence: float = 0.95,
) -> Interval:
    """Returns the difference of two mean likelihoods of texts, with its interval over prompts.

    A mean is that of all tokens of all texts; ``intervals.ratio_intervals`` gives one by itself.

    Args:
        variant: Negative log-likelihood of each of a variant's texts, nats [P], and its tokens [P].
        original: The same of the original's texts after the same prompts, in the same order.
        confidence: Coverage that the interval aims at, between 0 and 1.

    Returns:
        Nats per token, variant minus original, paired by prompt as in ``degeneration_differences``;
        nothing where a likelihood is not finite.
    """
    sums = np.array([*variant, *original], dtype=np.float64)
    if not np.isfinite(sums).all():
        return NOT_FINITE

    def differences(prompts: _Units) -> _Array:
        nll, tokens, other_nll, other_tokens = sums[:, prompts].sum(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            difference: _Array = nll / tokens - other_nll / other_tokens
        return np.atleast_1d(difference)

    anything = (-math.inf, math.inf)
    found = _intervals(["nll"], differences, sums[1] + sums[3], anything, confidence)
    return found["nll"]


def first_divergence(variant: Sequence[int], original: Sequence[int]) -> int | None:
    """Returns the index of the first token that differs, counted from 0; None if none does.

    Where one continuation is the beginning of the other, they differ at its end: there one goes on
    and the other stops.

    Args:
        variant: Token ids of the variant's continuation.
        original: Token ids of the original's.
    """
    for index, (ours, theirs) in enumerate(zip(variant, original, strict=False)):
        if ours != theirs:
            return index
    return None if len(variant) == len(original) else min(len(variant), len(original))


def departure(variant: Sequence[Sequence[int]], original: Sequence[Sequence[int]]) -> Departure:
    """Compares two models' continuations of the same prompts, token by token.

    Args:
        variant: The variant's continuations, P lists of token ids.
        original: The original's, in the same order.

    Raises:
        ValueError: If the two are not of the same number of prompts.
    """
    points = tuple(first_divergence(*pair) for pair in zip(variant, original, strict=True))
    diverging = [point for point in points if point is not None]
    return Departure(
        points=points,
        identical=1 - len(diverging) / len(points) if points else None,
        median_point=float(median(diverging)) if diverging else None,
    )


def _figures(counts: Counts) -> _Array:
    """All figures of counts [C, ..., P], as [F, ...]."""
    return np.stack([figure(counts) for figure in FIGURES.values()])


def _intervals(
    names: Iterable[str],
    statistic: Callable[[_Units], _Array],
    tokens: npt.NDArray[Any],
    limits: tuple[float, float],
    confidence: float,
) -> dict[str, Interval]:
    """Returns the interval of each figure, F names, that a statistic [F] gives of some prompts.

    A prompt weighs as many tokens as were written after it, [P].
    """
    weights = tokens.astype(np.float64)
    prompts = np.arange(tokens.size)
    estimates = statistic(prompts)
    without = np.array([statistic(np.delete(prompts, left_out)) for left_out in prompts])
    intervals = {}
    for index, name in enumerate(names):
        estimate = float(estimates[index])
        bounds: tuple[float, float] | tuple[None, None] = (None, None)
        if prompts.size >= 2 and np.isfinite(without[:, index]).all():
            spread = jackknife(without[:, index], weights, confidence, _ROUNDING)
            if spread.variance:
                low, high = np.clip([estimate - spread.below, estimate + spread.above], *limits)
                bounds = (float(low), float(high))
        intervals[name] = Interval(None if math.isnan(estimate) else estimate, *bounds)
    return intervals
