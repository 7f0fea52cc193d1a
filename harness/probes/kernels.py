"""The two loops over values that statistics on the CPU need, compiled.

Each reads memory once, where tensor operations do so six times, with what they leave in between.
"""

from __future__ import annotations

from typing import Any

from numba import njit
from numpy.typing import NDArray

# Values that are added up in their own type, before their sum goes to one in fp64.
_BLOCK = 1024


# Sums may be reordered, or the processor could not add many values at a time; NaN and infinity
# keep their meaning. Compiled anew in each process: numba keeps results as pickles.
_compiled = njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_compiled
def power_sums(
    values: NDArray[Any],
    bits: NDArray[Any],
    sign: Any,
    rest: Any,
    bounds: NDArray[Any],
    powers: NDArray[Any],
    ends: NDArray[Any],
) -> None:
    """Sums of x, x², x³ and x⁴ of stretches of some values, and their least and greatest value.

    Args:
        values: fp32 or fp64 [n].
        bits: The same memory as integers of the same size.
        sign: How far right the sign bit has to go, an integer of that size.
        rest: All bits but that of the sign, alike.
        bounds: Where each stretch starts and ends, at least one value further on [k, 2].
        powers: Where the sums go, fp64 [k, 4].
        ends: Where the bits of the least and the greatest value go [k, 2].
    """
    # The range is found among integers that are ordered as the values are: unlike the smaller of
    # two floats, of which one may be NaN, that of integers is one instruction for many of them.
    real, integer = values.dtype.type, bits.dtype.type
    for k in range(len(bounds)):
        first, last = bounds[k]
        low = high = integer(bits[first] ^ ((bits[first] >> sign) & rest))
        powers[k] = 0
        for start in range(first, last, _BLOCK):
            # Indices that start at 0 cannot be negative. Of others each might count from the end,
            # and values would be fetched one by one.
            stop = min(start + _BLOCK, last)
            block, order = values[start:stop], bits[start:stop]
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
            powers[k, 0] += one
            powers[k, 1] += two
            powers[k, 2] += three
            powers[k, 3] += four
        ends[k, 0] = low ^ ((low >> sign) & rest)
        ends[k, 1] = high ^ ((high >> sign) & rest)


@_compiled
def count_outside(
    values: NDArray[Any], bounds: NDArray[Any], absolute: float, center: float, reach: float
) -> tuple[int, int]:
    """How many values of some stretches exceed a magnitude, and a distance from a centre, in fp64.

    Args:
        values: fp32 or fp64 [n].
        bounds: Where each stretch starts and ends [k, 2].
        absolute: The magnitude.
        center: Where distances are measured from.
        reach: The distance.
    """
    beyond = outside = 0
    for k in range(len(bounds)):
        stretch = values[bounds[k, 0] : bounds[k, 1]]
        for i in range(stretch.size):  # an iterator would fetch one value after the other
            x = stretch[i]
            beyond += abs(x) > absolute
            outside += abs(x - center) > reach
    return beyond, outside
