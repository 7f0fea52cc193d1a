"""Moments of stretches of a matrix on a GPU, in Triton: nothing here waits for the device.

A program reads a stretch of rows. What one of them finds lies in a row of `partial`, and a second
look, which needs means and deviations of whole parts, finds them there: sums are made in one order,
whichever program is done first. Counts are whole numbers, and may be added in any.

Legend: n rows of D features, k stretches, P parts.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.kernels import layout
from harness.kernels.where import launching

LANES = 1024
"""Values that a program reads at a time."""

HOW = {"LANES": LANES, "num_warps": 4, "enable_fp_fusion": True}
"""What all these kernels are compiled with; as defaults change, they are said."""

PARTIAL = 6
"""Numbers of each stretch, fp64: sums of x, x², x³, x⁴, the largest magnitude, those beyond."""

START, STOP, TEXT = (tl.constexpr(k) for k in (layout.START, layout.STOP, layout.TEXT))
PART, FIRST, LAST = (tl.constexpr(k) for k in (layout.PART, layout.FIRST, layout.LAST))
STRETCH, COLUMNS = tl.constexpr(layout.STRETCH), tl.constexpr(layout.COLUMNS)
FOUND = tl.constexpr(PARTIAL)
_ROWS, _BEYOND = tl.constexpr(layout.ROWS), tl.constexpr(layout.BEYOND)
_BEYOND_SIGMAS = tl.constexpr(layout.BEYOND_SIGMAS)
_LARGEST, _SUMS = tl.constexpr(layout.LARGEST), tl.constexpr(layout.SUMS)

# As in `measuring`: beyond this ratio of mean to standard deviation, squared, sums of powers tell
# too little of what lies about the mean, and below this mean of x⁴ too much of them underflows.
_FAR_FROM_ZERO = tl.constexpr(4.0)
_TINY = tl.constexpr(1e-30)
# As in `moments.Moments`: below this share of the mean of x² a variance is rounding.
_VARIANCE_LEFT = tl.constexpr(1e-14)

_NAN_STAYS = tl.constexpr(tl.PropagateNan.ALL)


def look(values: Tensor, table: Tensor, partial: Tensor, settings: Tensor, numbers: Tensor) -> None:
    """Measures the parts of a matrix; outliers of a part are those of its own mean and deviation.

    Args:
        values: A matrix [n, D] of a floating-point type, contiguous.
        table: Its stretches, int32 [k, `layout.STRETCH`].
        partial: Room for what is found of each, fp64 [k, `PARTIAL`].
        settings: The absolute threshold and that in standard deviations, fp64 [2 or more].
        numbers: Zeros, where moments of each part go, fp64 [P, `layout.COLUMNS`].
    """
    shared = (values, table, partial, settings)
    whole, width, kind = numbers.view(torch.int64), values.shape[1], computed_in(values)
    grid = (len(table),)
    with launching(values.device):
        _sum[grid](*shared, width, TYPE=kind, **HOW)
        _count[grid](*shared, numbers, whole, width, TYPE=kind, **HOW)


def computed_in(values: Tensor) -> Any:
    """The type that values are computed with: fp32, or fp64 for those in it."""
    return tl.float64 if values.dtype == torch.float64 else tl.float32


@triton.jit
def _sum(
    values,
    table,
    partial,
    settings,
    width,
    TYPE: tl.constexpr,
    LANES: tl.constexpr,
):
    stretch = tl.program_id(0)
    start = tl.load(table + stretch * STRETCH + START).to(tl.int64) * width
    stop = tl.load(table + stretch * STRETCH + STOP).to(tl.int64) * width
    absolute = rounded_down(tl.load(settings), TYPE)
    lanes = tl.arange(0, LANES)
    one, two = tl.zeros([LANES], TYPE), tl.zeros([LANES], TYPE)
    three, four = tl.zeros([LANES], TYPE), tl.zeros([LANES], TYPE)
    largest, beyond = tl.zeros([LANES], TYPE), tl.zeros([LANES], tl.int32)
    for at in range(start, stop, LANES):
        x = tl.load(values + at + lanes, mask=at + lanes < stop, other=0.0).to(TYPE)
        square = x * x
        one += x
        two += square
        three += square * x
        four += square * square
        largest = _greater(largest, tl.abs(x), TYPE)
        beyond += (tl.abs(x) > absolute).to(tl.int32)
    count = (stop - start).to(tl.float64)
    total, squares = tl.sum(one.to(tl.float64), 0), tl.sum(two.to(tl.float64), 0)
    cubes, fourths = tl.sum(three.to(tl.float64), 0), tl.sum(four.to(tl.float64), 0)
    highest = greatest(largest).to(tl.float64)
    finite = (highest > 0.0) & (highest < float("inf"))
    if finite:
        mean = total / count
        variance = squares / count - mean * mean
        known = (fourths < float("inf")) & (fourths >= _TINY * count)
        known = known & (mean * mean <= _FAR_FROM_ZERO * variance)
        if known == 0:
            # Again, in fp64 about the mean; which is done by stretch, so that nobody has to wait.
            center = tl.where(tl.abs(mean) < float("inf"), mean, 0.0)
            first, second = tl.zeros([LANES], tl.float64), tl.zeros([LANES], tl.float64)
            third, fourth = tl.zeros([LANES], tl.float64), tl.zeros([LANES], tl.float64)
            for at in range(start, stop, LANES):
                there = at + lanes < stop
                x = tl.load(values + at + lanes, mask=there, other=0.0).to(tl.float64)
                x = tl.where(there, x - center, 0.0)
                first += x
                second += x * x
                third += x * x * x
                fourth += (x * x) * (x * x)
            s1, s2 = tl.sum(first, 0), tl.sum(second, 0)
            s3, s4 = tl.sum(third, 0), tl.sum(fourth, 0)
            two_of, three_of = center * center, center * center * center
            total = s1 + count * center
            squares = s2 + 2 * center * s1 + count * two_of
            cubes = s3 + 3 * center * s2 + 3 * two_of * s1 + count * three_of
            fourths = s4 + 4 * center * s3 + 6 * two_of * s2 + 4 * three_of * s1
            fourths += count * two_of * two_of
    out = partial + stretch * FOUND
    tl.store(out + 0, total)
    tl.store(out + 1, squares)
    tl.store(out + 2, cubes)
    tl.store(out + 3, fourths)
    tl.store(out + 4, highest)
    tl.store(out + 5, tl.sum(beyond, 0).to(tl.float64))


@triton.jit
def _count(
    values,
    table,
    partial,
    settings,
    numbers,
    whole,
    width,
    TYPE: tl.constexpr,
    LANES: tl.constexpr,
):
    stretch = tl.program_id(0)
    row = table + stretch * STRETCH
    first, last = tl.load(row + FIRST), tl.load(row + LAST)
    part = tl.load(row + PART).to(tl.int64) * COLUMNS
    numbers += part
    whole += part
    lanes = tl.arange(0, LANES)
    total, squares = tl.zeros([LANES], tl.float64), tl.zeros([LANES], tl.float64)
    rows = tl.zeros([LANES], tl.int64)
    for at in range(first, last, LANES):
        other = at + lanes
        there = other < last
        total += tl.load(partial + other * FOUND, mask=there, other=0.0)
        squares += tl.load(partial + other * FOUND + 1, mask=there, other=0.0)
        rows += tl.load(table + other * STRETCH + STOP, mask=there, other=0)
        rows -= tl.load(table + other * STRETCH + START, mask=there, other=0)
    sum_one, sum_two, all_rows = tl.sum(total, 0), tl.sum(squares, 0), tl.sum(rows, 0)
    if stretch == first:  # it speaks for the part
        cubes, fourths = tl.zeros([LANES], tl.float64), tl.zeros([LANES], tl.float64)
        largest, beyond = tl.zeros([LANES], tl.float64), tl.zeros([LANES], tl.float64)
        for at in range(first, last, LANES):
            other = at + lanes
            there = other < last
            cubes += tl.load(partial + other * FOUND + 2, mask=there, other=0.0)
            fourths += tl.load(partial + other * FOUND + 3, mask=there, other=0.0)
            high = tl.load(partial + other * FOUND + 4, mask=there, other=0.0)
            largest = _greater(largest, high, tl.float64)
            beyond += tl.load(partial + other * FOUND + 5, mask=there, other=0.0)
        tl.store(numbers + _SUMS, sum_one)
        tl.store(numbers + _SUMS + 1, sum_two)
        tl.store(numbers + _SUMS + 2, tl.sum(cubes, 0))
        tl.store(numbers + _SUMS + 3, tl.sum(fourths, 0))
        tl.store(numbers + _LARGEST, greatest(largest))
        tl.store(whole + _ROWS, all_rows)
        tl.store(whole + _BEYOND, tl.sum(beyond, 0).to(tl.int64))
    count = (all_rows * width).to(tl.float64)
    count = tl.where(count > 0.0, count, 1.0)
    mean, second = sum_one / count, sum_two / count
    variance = second - mean * mean
    variance = tl.where(variance < _VARIANCE_LEFT * second, 0.0, variance)
    reach = tl.load(settings + 1) * tl.sqrt(variance)
    # Of equal values none lies beyond, whatever their mean is rounded to; nor does one, where what
    # is not finite leaves no deviation.
    possible = (reach > 0.0) & (tl.load(partial + stretch * FOUND + 4) + tl.abs(mean) > reach)
    if possible:
        start = tl.load(row + START).to(tl.int64) * width
        stop = tl.load(row + STOP).to(tl.int64) * width
        above, below = rounded_down(reach + mean, TYPE), rounded_down(reach - mean, TYPE)
        outside = tl.zeros([LANES], tl.int32)
        for place in range(start, stop, LANES):
            there = place + lanes < stop
            x = tl.load(values + place + lanes, mask=there, other=0.0).to(TYPE)
            outside += (((x > above) | (-x > below)) & there).to(tl.int32)
        found = tl.sum(outside, 0)
        if found > 0:
            tl.atomic_add(whole + _BEYOND_SIGMAS, found.to(tl.int64))


@triton.jit
def _greater(one, other, TYPE: tl.constexpr):
    if TYPE == tl.float64:  # for which there is no instruction
        result = tl.where((other > one) | (other != other), other, one)
    else:
        result = tl.maximum(one, other, propagate_nan=_NAN_STAYS)
    return result


@triton.jit
def greatest(values):
    """The greatest of several, NaN where one is."""
    broken = tl.max((values != values).to(tl.int32), 0) > 0
    return tl.where(broken, float("nan"), tl.max(tl.where(values == values, values, 0.0), 0))


@triton.jit
def rounded_down(bound, TYPE: tl.constexpr):
    """The largest number of a type up to an fp64 one: what exceeds the one exceeds the other."""
    if TYPE == tl.float64:
        result = bound
    else:
        nearest = bound.to(TYPE)
        bits = nearest.to(tl.int32, bitcast=True)
        below = tl.where(bits < 0, bits + 1, bits - 1).to(TYPE, bitcast=True)
        result = tl.where(nearest.to(tl.float64) > bound, below, nearest)
    return result
