"""What the compiled loops are for: many values at a time, read as they lie in memory."""

from __future__ import annotations

from typing import Any

import pytest
from numba.core import types

from harness.probes import kernels as probes
from harness.scoring import kernels as scoring

FLOATS, ROWS = types.Array(types.float32, 1, "C"), types.Array(types.float32, 2, "C")
BITS, BOUNDS = types.Array(types.int32, 1, "C"), types.Array(types.int64, 2, "C")
SUMS = types.Array(types.float64, 2, "C")
ENDS = types.Array(types.int32, 2, "C")

LOOPS = {
    "power_sums": (
        probes.power_sums,
        (FLOATS, BITS, types.int32, types.int32, BOUNDS, SUMS, ENDS),
    ),
    "count_outside": (probes.count_outside, (FLOATS, BOUNDS, *[types.float64] * 3)),
    "exponential_sums": (scoring.exponential_sums, (ROWS, FLOATS, FLOATS)),
    "divergences": (scoring.divergences, (ROWS, FLOATS, FLOATS, ROWS, FLOATS, FLOATS, FLOATS)),
}


def assembly(loop: Any, signature: tuple[Any, ...]) -> str:
    loop.compile(signature)
    return str(loop.inspect_asm(loop.signatures[-1]))


@pytest.mark.parametrize("name", LOOPS)
def test_values_are_read_side_by_side(name: str) -> None:
    # Processors with AVX-512 are made to fetch values one by one where indices may be negative and
    # count from the end, or are an iterator's: four to seven times as slow.
    assert "gather" not in assembly(*LOOPS[name])
