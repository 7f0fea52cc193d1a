"""Degeneration with intervals over prompts, and how a variant's texts depart from the original's.

The unit that is resampled is the prompt. Original and variant continue the same prompts, so their
difference is paired: a resample draws prompts, and both are measured on what was drawn.

Legend: P prompts, C counts of each (``degeneration.tally``), F figures, n resamples.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from harness.scoring.degeneration import FIGURES, Counts
from harness.scoring.intervals import MOST_UNITS_FOR_BCA, Interval

# Resamples are drawn in batches of about this many prompts, whose counts take 2 MiB.
_CELLS = 2**15

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


def degeneration_intervals(
    counts: Counts, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Returns each figure of some continuations with a bootstrap interval over prompts.

    As in ``intervals.ratio_intervals`` this is the BCa interval of ``scipy.stats.bootstrap``, or
    the percentile interval of the same resamples where BCa is undefined and above
    ``MOST_UNITS_FOR_BCA`` prompts; a figure that no resample changes has an interval of no width.

    Args:
        counts: Counts per prompt, [C, P].
        resamples: Number of bootstrap resamples.
        confidence: Coverage that the intervals aim at, between 0 and 1.
        seed: Seed of the resamples.

    Returns:
        Intervals by figure. Without ends where there are fewer than two prompts, or where so few
        prompts have what is counted that a resample was left with none of it.
    """

    def figures(prompts: _Units) -> _Array:
        return _figures(counts[:, prompts])

    return _intervals(figures, counts.shape[1], resamples, confidence, seed)


def degeneration_differences(
    variant: Counts,
    original: Counts,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns each figure's difference, variant minus original, with its interval over prompts.

    The difference is that of the two figures; the bootstrap, as in ``degeneration_intervals``, is
    paired by prompt. Equal counts give exactly 0 with an interval of no width.

    Args:
        variant: The variant's counts per prompt, [C, P].
        original: The original's counts on the same prompts in the same order, [C, P].
        resamples: Number of bootstrap resamples.
        confidence: Coverage that the intervals aim at, between 0 and 1.
        seed: Seed of the resamples.

    Returns:
        Intervals by figure, with None as in ``degeneration_intervals``.

    Raises:
        ValueError: If the two are not of the same number of prompts.
    """
    if variant.shape != original.shape:
        raise ValueError(f"{variant.shape[1]} prompts beside {original.shape[1]}")

    def differences(prompts: _Units) -> _Array:
        return _figures(variant[:, prompts]) - _figures(original[:, prompts])

    return _intervals(differences, original.shape[1], resamples, confidence, seed)


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
    statistic: Callable[[_Units], _Array],
    prompts: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Interval]:
    """Returns the interval of each figure that a statistic [F, ...] gives of drawn prompts."""
    estimates = statistic(np.arange(prompts))
    bounds = np.full((len(estimates), 2), np.nan)
    if prompts >= 2:
        bounds = _bootstrap(statistic, estimates, prompts, resamples, confidence, seed)
    return {
        name: Interval(_number(estimate), _number(low), _number(high))
        for name, estimate, (low, high) in zip(FIGURES, estimates, bounds, strict=True)
    }


def _bootstrap(
    statistic: Callable[[_Units], _Array],
    estimates: _Array,
    prompts: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> _Array:
    """Returns the ends of each figure's interval, [F, 2]; NaN where there is none."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    # What is resampled is the prompt's number, so that one draw serves all figures and both sides.
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = bootstrap(
            (np.arange(prompts),),
            lambda drawn, axis: statistic(drawn),
            vectorized=True,
            n_resamples=resamples,
            batch=max(1, _CELLS // prompts),
            confidence_level=confidence,
            method="BCa" if prompts <= MOST_UNITS_FOR_BCA else "percentile",
            rng=np.random.Generator(np.random.PCG64(seed)),
        )
    bounds = np.stack(result.confidence_interval, axis=-1)
    drawn = result.bootstrap_distribution
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    percentiles = np.quantile(drawn, tails, axis=-1).T
    bounds = np.where(np.isnan(bounds).any(-1, keepdims=True), percentiles, bounds)
    still = np.abs(drawn - estimates[:, None]).max(-1) <= _ROUNDING
    chosen: _Array = np.where(still[:, None], estimates[:, None], bounds)
    return chosen


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
