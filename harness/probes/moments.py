"""Statistics of many values as sums, counts and a maximum, which add up over batches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# Below this share of the mean of x², what is left of the variance is rounding, and below the second
# one so is what is left of the fourth central moment.
_VARIANCE_LEFT = 1e-14
_KURTOSIS_LEFT = 4e-7


@dataclass(frozen=True)
class Thresholds:
    """From where on a value is an outlier.

    Args:
        absolute: Magnitude that an outlier exceeds, in the unit of the values. 6.0 is that of
            LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339).
        sigmas: Distance from the mean that an outlier exceeds, in standard deviations.
    """

    absolute: float = 6.0
    sigmas: float = 6.0


@dataclass(frozen=True)
class Moments:
    """What is kept of some values: sums in fp64, counts and a maximum.

    Attributes:
        count: How many values.
        total: Sum of x.
        squares: Sum of x².
        cubes: Sum of x³.
        fourths: Sum of x⁴.
        max_abs: Largest |x|; NaN if any value is.
        beyond: Values with |x| > ``Thresholds.absolute``.
        beyond_sigmas: Values further than ``Thresholds.sigmas`` standard deviations from the mean,
            mean and deviation being those of the values that were measured together.
        massive: Massive activations: counted in the residual stream, of whole texts; else 0.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    cubes: float = 0.0
    fourths: float = 0.0
    max_abs: float = 0.0
    beyond: int = 0
    beyond_sigmas: int = 0
    massive: int = 0

    def __add__(self, other: Moments) -> Moments:
        """The moments of the values of both."""
        largest = math.nan if math.isnan(self.max_abs) else max(other.max_abs, self.max_abs)
        return Moments(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            self.cubes + other.cubes,
            self.fourths + other.fourths,
            largest,
            self.beyond + other.beyond,
            self.beyond_sigmas + other.beyond_sigmas,
            self.massive + other.massive,
        )

    @classmethod
    def sum(cls, parts: Iterable[Moments]) -> Moments:
        """The moments of all parts together."""
        return sum(parts, Moments())

    @property
    def mean(self) -> float:
        """Mean of x; NaN of no values, as the other figures are."""
        return self.total / self.count if self.count else math.nan

    @property
    def rms(self) -> float:
        """Root of the mean of x²."""
        return math.sqrt(self.squares / self.count) if self.count else math.nan

    @property
    def std(self) -> float:
        """Standard deviation, the biased one (divided by the count)."""
        return math.sqrt(self._variance)

    @property
    def kurtosis(self) -> float:
        """Pearson's kurtosis, E[(x - mean)⁴] / var²: 3 for a Gaussian.

        Far from zero digits are lost with the fourth power of mean by standard deviation: at a
        thousand three or four are left. NaN where all are equal, or so nearly (a standard deviation
        below 1/1500 of the mean) that the sums do not tell.
        """
        if not self.count:
            return math.nan
        mean, second, third, fourth = (
            value / self.count for value in (self.total, self.squares, self.cubes, self.fourths)
        )
        variance = self._variance
        if not variance > _KURTOSIS_LEFT * second:
            return math.nan
        square = mean * mean  # overflows to infinity, where a power would raise
        central = fourth - 4 * mean * third + 6 * square * second - 3 * square * square
        return central / variance / variance

    @property
    def share_beyond(self) -> float:
        """Share of the values beyond the absolute threshold, 0 to 1; NaN where a value is."""
        known = self.count and not math.isnan(self.max_abs)
        return self.beyond / self.count if known else math.nan

    @property
    def share_beyond_sigmas(self) -> float:
        """Share of the values beyond the threshold in standard deviations, 0 to 1.

        NaN where a value is not finite, and so there is no deviation.
        """
        known = self.count and math.isfinite(self.max_abs)
        return self.beyond_sigmas / self.count if known else math.nan

    @property
    def _variance(self) -> float:
        if not self.count:
            return math.nan
        second, mean = self.squares / self.count, self.mean
        variance = second - mean * mean
        return 0.0 if variance < _VARIANCE_LEFT * second else variance
