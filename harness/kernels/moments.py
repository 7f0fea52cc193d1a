"""The two loops over values that statistics on the CPU need, compiled.

Each reads memory once, where tensor operations do so six times, with what they leave in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray

BLOCK = 1024
"""Values that are added up in their own type, before their sum goes to one in fp64."""

# Sums may be reordered, or the processor could not add many values at a time; NaN and infinity
# keep their meaning. Compiled anew in each process: numba keeps results as pickles.
_compiled = njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})


def _widened(values: Any, start: Any, stop: Any, wide: Any) -> Any:
    block = values[start:stop]
    for i in range(block.size):
        wide[i] = np.int32(block[i]) << 16  # a bfloat16 is the upper half of a float
    return wide[: block.size].view(np.float32)


def _as_they_are(values: Any, start: Any, stop: Any, wide: Any) -> Any:
    return values[start:stop]


def _block(values: Any, start: Any, stop: Any, wide: Any) -> Any:
    """Some of the values in fp32 or fp64, which may lie in the room for a block."""
    read = _widened if values.dtype.kind == "i" else _as_they_are
    return read(values, start, stop, wide)


@overload(_block)
def _compiled_block(values: Any, start: Any, stop: Any, wide: Any) -> Callable[..., Any]:
    return _widened if isinstance(values.dtype, types.Integer) else _as_they_are


@_compiled
def power_sums(values: NDArray[Any], wide: NDArray[Any], bounds: NDArray[Any]) -> NDArray[Any]:
    """Sums of x, x², x³ and x⁴ of stretches of some values, and their least and greatest value.

    Args:
        values: fp32, fp64, or bfloat16 as int16 [n].
        wide: Room for a block of integers, int32 or for fp64 int64 [`BLOCK`].
        bounds: Where each stretch starts and ends, at least one value further on [k, 2].

    Returns:
        fp64 [k, 6]; where a value is NaN, so is the least value or the greatest.
    """
    sums = np.zeros((len(bounds), 6))
    # The range is found among integers that are ordered as the values are: unlike the smaller of
    # two floats, of which one may be NaN, that of integers is one instruction for many of them.
    integer = wide.dtype.type
    sign = integer(wide.itemsize * 8 - 1)
    rest = integer(~(integer(-1) << sign))
    for k in range(len(bounds)):
        first, last = bounds[k]
        one_value = _block(values, first, first + 1, wide)
        bits = one_value.view(wide.dtype)[0]
        low = high = integer(bits ^ ((bits >> sign) & rest))
        for start in range(first, last, BLOCK):
            # Indices that start at 0 cannot be negative. Of others each might count from the end,
            # and values would be fetched one by one.
            block = _block(values, start, min(start + BLOCK, last), wide)
            order, real = block.view(wide.dtype), block.dtype.type
            one = two = three = four = real(0)
            for i in range(block.size):
                x = block[i]
                square = x * x
                one += x
                two += square
                three += square * x
                four += square * square
                place = integer(order[i] ^ ((order[i] >> sign) & rest))
                low = min(low, place)
                high = max(high, place)
            sums[k, 0] += one
            sums[k, 1] += two
            sums[k, 2] += three
            sums[k, 3] += four
        wide[0], wide[1] = low ^ ((low >> sign) & rest), high ^ ((high >> sign) & rest)
        sums[k, 4:] = wide[:2].view(one_value.dtype)
    return sums


@_compiled
def count_outside(
    values: NDArray[Any],
    wide: NDArray[Any],
    bounds: NDArray[Any],
    absolute: float,
    center: float,
    reach: float,
) -> tuple[int, int]:
    """How many values of some stretches exceed a magnitude, and a distance from a centre, in fp64.

    Args:
        values: fp32, fp64, or bfloat16 as int16 [n].
        wide: Room for a block of integers, as for `power_sums`.
        bounds: Where each stretch starts and ends [k, 2].
        absolute: The magnitude.
        center: Where distances are measured from.
        reach: The distance.
    """
    beyond = outside = 0
    for k in range(len(bounds)):
        first, last = bounds[k]
        for start in range(first, last, BLOCK):
            block = _block(values, start, min(start + BLOCK, last), wide)
            for i in range(block.size):  # an iterator would fetch one value after the other
                x = block[i]
                beyond += abs(x) > absolute
                outside += abs(x - center) > reach
    return beyond, outside
