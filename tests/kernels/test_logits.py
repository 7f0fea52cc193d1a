"""What the compiled loops are for: many values at a time, read as they lie in memory."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

import pytest
import torch
from numba import types

from harness.kernels import logits as scoring
from harness.kernels import moments as probes
from harness.probes import Thresholds, measure
from harness.scoring.tokens import Predictions, token_kl

FLOATS, ROWS, HALVES = types.float32[::1], types.float32[:, ::1], types.int16[::1]
ROOM, PLACES = types.int32[::1], types.int64[:, ::1]
THRESHOLDS = (types.float64,) * 3

# What each is compiled for where a model computes in fp32, or in bfloat16.
LOOPS = {
    "power_sums": (probes.power_sums, (FLOATS, ROOM, PLACES)),
    "power_sums_bf16": (probes.power_sums, (HALVES, ROOM, PLACES)),
    "count_outside": (probes.count_outside, (FLOATS, ROOM, PLACES, *THRESHOLDS)),
    "count_outside_bf16": (probes.count_outside, (HALVES, ROOM, PLACES, *THRESHOLDS)),
    "exponential_sums": (scoring.exponential_sums, (ROWS, FLOATS, FLOATS)),
    "divergences": (scoring.divergences, (ROWS, FLOATS, FLOATS, ROWS, FLOATS, FLOATS, FLOATS)),
}

# Code can be made for a processor that it could not run on.
COMPILED_ELSEWHERE = {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": ""}


def test_the_loops_run_as_they_are_looked_at_here() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        measure(torch.full((3, 4), 9.0, dtype=dtype), Thresholds(6.0, 0.1))
    predictions = Predictions.of(torch.zeros(2, 5))
    token_kl(predictions, predictions)
    for loop, signature in LOOPS.values():
        assert signature in loop.signatures


@pytest.fixture(scope="module")
def machine_code() -> dict[str, str]:
    """What a processor with AVX-512 would be given, by loop."""
    command = [sys.executable, "-m", __name__]
    environment = os.environ | COMPILED_ELSEWHERE
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(zip(LOOPS, done.stdout.split(CUT), strict=True))


CUT = "\n=====\n"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="no code for x86 here")
@pytest.mark.parametrize("name", LOOPS)
def test_values_are_taken_side_by_side(name: str, machine_code: dict[str, str]) -> None:
    code = machine_code[name]
    assert re.search(r"\bv(add|sub|mul|fn?m\w+|cmp\w*)p[sd]\b.*%[yz]mm", code)
    # One by one is how they are fetched where indices may be negative, and count from the end, or
    # are those of an iterator: several times as slow.
    assert "gather" not in code


if __name__ == "__main__":
    for compiled, types_ in LOOPS.values():
        compiled.compile(types_)
    print(CUT.join(compiled.inspect_asm(types_) for compiled, types_ in LOOPS.values()))
