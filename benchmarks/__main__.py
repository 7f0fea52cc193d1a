"""``python -m benchmarks [ROW ...]``: every bound, what was measured, and whether it holds."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import ModuleType

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from benchmarks import (
    decode,
    finding,
    hooks,
    lm_eval,
    memory,
    observed_decode,
    observed_pair,
    pair,
    start_to_finish,
    startup,
)
from benchmarks.shapes import SHAPES, Bench

ROWS: Mapping[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        hooks,
        pair,
        observed_pair,
        finding,
        decode,
        observed_decode,
        memory,
        start_to_finish,
        lm_eval,
        startup,
    )
}
"""What can be measured. A module has a `CLAIM`, its `BOUNDS` by kind of device and shape, and a
function `ratio` that measures it."""


def main() -> int:
    """Measures each claim; the exit status is 1 if one does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    chosen = parser.parse_args().rows or list(ROWS)
    if unknown := [name for name in chosen if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{_name(device)}, torch {torch.__version__}, {date.today():%Y-%m-%d}\n", flush=True)
    broken = 0
    for shape in SHAPES[device]:
        bench = Bench(shape, device)
        for row in (ROWS[name] for name in chosen):
            if shape.name in (bounds := row.BOUNDS.get(device, {})):
                broken += not _holds(row, bench, bounds[shape.name])
        del bench
        gc.collect()
    return int(broken > 0)


def _holds(row: ModuleType, bench: Bench, bound: float) -> bool:
    claim = f"{row.CLAIM}, {bench.shape.name}"
    measured = row.ratio(bench)
    if measured is None:
        print(f"{claim:86} left out: {row.NEEDS}", flush=True)
        return True
    verdict = "holds" if measured <= bound else "BROKEN"
    print(f"{claim:86} {measured:6.2f}  at most {bound:<5}  {verdict}", flush=True)
    return measured <= bound


def _name(device: str) -> str:
    """The device as its maker calls it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    told = Path("/proc/cpuinfo")
    text = told.read_text() if told.exists() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    sys.exit(main())
