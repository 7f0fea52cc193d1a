"""Statistics of many values as sums, counts and a maximum, which add up over batches.

Legend: n rows of D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PIECE = 2**16
"""Values that are worked on at a time on the CPU: 256 KiB in fp32, which a core's cache holds."""

# Beyond this ratio of mean to standard deviation, central moments lose too much to cancellation.
_FAR_FROM_ZERO = 2.0

# Below this mean of x⁴ too many fourth powers underflow in fp32; fp64 has room for them.
_TINY = 1e-30

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

        NaN where all are equal, or so nearly (a standard deviation below 1/1500 of the mean) that
        the sums do not tell.
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
        """Share of the values beyond the absolute threshold, 0 to 1."""
        return self.beyond / self.count if self.count else math.nan

    @property
    def share_beyond_sigmas(self) -> float:
        """Share of the values beyond the threshold in standard deviations, 0 to 1."""
        return self.beyond_sigmas / self.count if self.count else math.nan

    @property
    def _variance(self) -> float:
        if not self.count:
            return math.nan
        second, mean = self.squares / self.count, self.mean
        variance = second - mean * mean
        return 0.0 if variance < _VARIANCE_LEFT * second else variance


def measure(values: Iterable[Tensor], thresholds: Thresholds) -> Moments:
    """Moments of all values of some matrices.

    Sums over a piece are made in fp32 (in fp64 for fp64 values) and added up in fp64. Where the
    mean is far from zero, or fourth powers overflow or underflow, all is summed in fp64 about the
    mean.

    Args:
        values: Matrices [n, D] of a floating-point type.
        thresholds: What counts as an outlier.
    """
    pieces = [piece for matrix in values if matrix.numel() for piece in _pieces(matrix)]
    if not pieces:
        return Moments()
    with _serial(pieces[0].device.type == "cpu"):
        return _measure(pieces, thresholds)


def _measure(pieces: Sequence[Tensor], thresholds: Thresholds) -> Moments:
    count = sum(piece.numel() for piece in pieces)
    table = _sums(pieces)
    sums = Moments(count, *table[:, :4].sum(0).tolist())
    ranges = table[:, 4:].tolist()
    lows, highs = zip(*ranges, strict=True)
    # Python's max() would pass NaN on only where it comes first.
    largest = math.nan if any(map(math.isnan, lows)) else max(-min(lows), max(highs))
    if math.isfinite(largest) and largest and not _well_conditioned(sums):
        sums = _sums_about(sums.mean if math.isfinite(sums.mean) else 0.0, pieces)
    beyond, beyond_sigmas = _outside(pieces, ranges, sums, thresholds)
    return replace(sums, max_abs=largest, beyond=beyond, beyond_sigmas=beyond_sigmas)


@contextmanager
def _serial(needed: bool) -> Iterator[None]:
    """One thread: to wake another takes longer than all work on a piece."""
    threads = torch.get_num_threads()
    if not needed or threads == 1:
        yield
        return
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def _pieces(matrix: Tensor) -> Iterator[Tensor]:
    """A matrix cut along its rows, in fp32 or wider; whole on an accelerator."""
    matrix = matrix.detach()
    rows = max(1, PIECE // matrix.shape[1]) if matrix.device.type == "cpu" else len(matrix)
    narrow = matrix.dtype in (torch.float16, torch.bfloat16)
    return (piece.float() if narrow else piece for piece in torch.split(matrix, rows))


def _sums(pieces: Sequence[Tensor]) -> Tensor:
    """Sums of x, x², x³, x⁴, and the range of each piece, fp64 [pieces, 6] on the host."""
    squares = pieces[0].new_empty(max(piece.numel() for piece in pieces))
    found = []
    for piece in pieces:
        x = piece.reshape(-1)
        square = torch.mul(x, x, out=squares[: len(x)])
        found += [x.sum(), square.sum(), x.dot(square), square.dot(square), *x.aminmax()]
    return torch.stack(found).cpu().double().view(-1, 6)


def _well_conditioned(sums: Moments) -> bool:
    if not math.isfinite(sums.fourths) or sums.fourths < _TINY * sums.count:
        return False
    return abs(sums.mean) <= _FAR_FROM_ZERO * sums.std


def _sums_about(mean: float, pieces: Sequence[Tensor]) -> Moments:
    """The same sums from powers of x - mean in fp64, whose mean may be a little off."""
    count = sum(piece.numel() for piece in pieces)
    powers = [0.0] * 4
    for piece in pieces:
        offset = piece.cpu().double() - mean
        power = torch.ones_like(offset)
        for k in range(4):
            power *= offset
            powers[k] += float(power.sum())
    one, two, three, four = powers
    square = mean * mean
    cube = square * mean
    return Moments(
        count,
        one + count * mean,
        two + 2 * mean * one + count * square,
        three + 3 * mean * two + 3 * square * one + count * cube,
        four + 4 * mean * three + 6 * square * two + 4 * cube * one + count * square * square,
    )


def _outside(
    pieces: Sequence[Tensor],
    ranges: Sequence[Sequence[float]],
    sums: Moments,
    thresholds: Thresholds,
) -> tuple[int, int]:
    """How many values lie beyond the absolute threshold, and beyond that in deviations."""
    # Of equal values none lies beyond, whatever their mean is rounded to.
    far = thresholds.sigmas * sums.std or math.inf
    limits = ((0.0, thresholds.absolute), (sums.mean, far))
    counts = [0, 0]
    for piece, (least, greatest) in zip(pieces, ranges, strict=True):
        for k, (center, reach) in enumerate(limits):
            # Most pieces have none, as their range shows; that of one with NaN shows nothing.
            if not max(center - least, greatest - center) <= reach:
                distance = piece - center if center else piece.clone()
                counts[k] += count(distance.abs_().gt_(reach))
    return counts[0], counts[1]


def count(flags: Tensor) -> int:
    """How many of some ones and zeros are ones.

    Floating-point flags: comparisons that write their own type, and sums of it, are four times as
    fast as those of bools. A sum in fp32 is exact up to 2^24.
    """
    return sum(int(part.sum()) for part in torch.split(flags.flatten(), 2**24))
