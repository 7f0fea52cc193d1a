"""Which entries of a weight are outliers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from harness.errors import ConfigError, check_positive, is_number
from harness.outliers import nearest
from harness.outliers.pieces import mask, outside, single
from harness.outliers.ranking import largest
from harness.outliers.spread import finite_range, mean_and_std


class Criterion(ABC):
    """Decides which entries of a weight are outliers.

    A subclass says it in `select`. Made a frozen dataclass, its fields are its arguments on the
    command line and its `str` is what results call it by.
    """

    @abstractmethod
    def select(self, weight: Tensor) -> Tensor:
        """Marks the outliers of one weight.

        Args:
            weight: A floating-point parameter of any shape and memory layout.

        Returns:
            bool, of the same shape and on the same device.
        """

    def bounds(self, weight: Tensor) -> tuple[float, float]:
        """The interval into which `Clip` brings this weight's outliers.

        Args:
            weight: As in `select`.

        Returns:
            The range of the finite entries that are not selected; (0, 0) if there are none.
        """
        return finite_range(weight, ~self.select(weight)) or (0.0, 0.0)

    def which(self) -> str:
        """Its outliers as a sentence calls them: `those with |w| > 5`."""
        return f"those of {self}"

    def nearest(self, parameters: Mapping[str, Tensor]) -> str | None:
        """How near it came, in words, where it selected nothing; None where that cannot be told.

        Args:
            parameters: Where it looked, by name.

        Returns:
            By default the largest |w| and where it is.
        """
        return nearest.largest(parameters)


@dataclass(frozen=True)
class AbsoluteThreshold(Criterion):
    """Outliers are the entries with |w| > threshold.

    Compared in single precision, or in double where the weight is. Infinities are outliers, NaN
    is not. `Clip` brings them to -threshold and threshold.

    Args:
        threshold: Magnitude above which an entry is an outlier, in the weight's own unit.
    """

    threshold: float = 5.0

    def __post_init__(self) -> None:
        """Refuses a threshold that is not a positive, finite number."""
        check_positive("threshold", self.threshold)

    def select(self, weight: Tensor) -> Tensor:
        """Marks entries above the threshold."""
        return mask(weight, lambda piece: single(piece).abs() > self.threshold)

    def bounds(self, weight: Tensor) -> tuple[float, float]:
        """The interval from -threshold to threshold."""
        return -self.threshold, self.threshold

    def which(self) -> str:
        """By the threshold."""
        return f"those with |w| > {self.threshold:g}"


@dataclass(frozen=True)
class SigmaThreshold(Criterion):
    """Outliers are the entries with |w - mean| > sigmas * std of their tensor.

    Mean and unbiased standard deviation are those of the finite entries, in double precision, and
    the same on every device. Infinities are outliers, NaN is not. A tensor of one value, or of
    fewer than two finite entries, has no outliers. `Clip` brings them to mean - sigmas * std and
    mean + sigmas * std.

    Args:
        sigmas: Distance from the mean, in standard deviations, above which an entry is an outlier.
    """

    sigmas: float = 6.0

    def __post_init__(self) -> None:
        """Refuses a distance that is not a positive, finite number."""
        check_positive("sigmas", self.sigmas)

    def select(self, weight: Tensor) -> Tensor:
        """Marks entries far from the mean."""
        # Of fewer than two finite entries the ends are NaN, and nothing is outside.
        return outside(weight, *self._interval(weight))

    def bounds(self, weight: Tensor) -> tuple[float, float]:
        """The interval of `sigmas` standard deviations about the mean."""
        low, high = self._interval(weight)
        return super().bounds(weight) if math.isnan(low) else (low, high)

    def which(self) -> str:
        """By the distance."""
        return f"those beyond {self.sigmas:g} sigma of their tensor"

    def nearest(self, parameters: Mapping[str, Tensor]) -> str | None:
        """The largest distance, in standard deviations."""
        return nearest.farthest_in_sigmas(parameters)

    def _interval(self, weight: Tensor) -> tuple[float, float]:
        mean, std = mean_and_std(weight)
        return mean - self.sigmas * std, mean + self.sigmas * std


@dataclass(frozen=True)
class TopFraction(Criterion):
    """Outliers are the floor(fraction * entries) largest |w| of each tensor.

    The default is the share that Yu et al. (2024, arXiv 2411.07191) compare super weights with.
    Of equal magnitudes those first in row-major order are taken. Infinities are the largest; NaN
    is never taken. `Clip` brings them to the range of the rest.

    Args:
        fraction: Share of each tensor's entries, above 0 and at most 1. Tensors of fewer than
            1 / fraction entries have no outliers.
    """

    fraction: float = 1e-6

    def __post_init__(self) -> None:
        """Refuses a share that is not above 0 and at most 1."""
        if not is_number(self.fraction) or not 0 < self.fraction <= 1:
            raise ConfigError("fraction", self.fraction, "must be a number above 0 and at most 1")

    def select(self, weight: Tensor) -> Tensor:
        """Marks the largest entries."""
        # As the decimal number that was written: in binary, 0.29 * 100 falls short of 29.
        count = math.floor(Fraction(str(self.fraction)) * weight.numel())
        return largest(weight, count)

    def which(self) -> str:
        """By the share."""
        return f"the largest {self.fraction:g} of each tensor"

    def nearest(self, parameters: Mapping[str, Tensor]) -> str | None:
        """The size of the largest tensor, of which the share is less than one entry."""
        name, weight = max(parameters.items(), key=lambda item: item[1].numel())
        size = f"{name} of {weight.numel():,} weights"
        return f"{self.fraction:g} of its largest tensor, {size}, is less than one"
