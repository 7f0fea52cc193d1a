"""Peak memory of scoring the original alone, or many variants beside it."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.shapes import SHAPES, Bench
from harness.outliers.intervention import Intervention
from harness.scoring import score_batch

CLAIM = "peak memory with four variants and twelve controls, by the original alone"
BOUNDS = {"cpu": {"135M": 1.15}, "cuda": {"135M": 1.3, "1B": 1.1, "8B": 1.03}}
# On the CPU a shallower model would be faster, and another claim: what variants add would be set
# beside fewer weights (six layers gave 1.22 and 1.28).


def ratio(bench: Bench) -> float:
    """On the CPU of whole processes, since what one has had cannot be taken back."""
    peak = _of_a_process if bench.device == "cpu" else _on_a_gpu
    return peak(bench, 4) / peak(bench, 0)


def _on_a_gpu(bench: Bench, variants: int) -> float:
    made = bench.patches(variants, controls=3)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    _score(bench, made)
    return torch.cuda.max_memory_allocated()


def _of_a_process(bench: Bench, variants: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", bench.shape.name, str(variants)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _score(bench: Bench, made: dict[str, Intervention]) -> None:
    score_batch(bench.head, *bench.batch, made).read()


def main() -> None:
    """Scores a batch and prints this process's peak resident memory."""
    name, variants = sys.argv[1:]
    bench = Bench(next(shape for shape in SHAPES["cpu"] if shape.name == name), "cpu")
    _score(bench, bench.patches(int(variants), controls=3))
    print(_peak())


def _peak() -> int:
    """Peak resident memory of this process, in the system's unit."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not what getrusage says: on Linux that begins with the memory of whoever started this.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
