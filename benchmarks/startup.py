"""Time to the command line's help, against that of importing Lightning."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.shapes import Bench

CLAIM = "--help, by importing lightning.pytorch"
BOUNDS = {"cpu": {"135M": 1.5}}
_HELP = [sys.executable, "-m", "harness", "validate", "--help"]
_IMPORT = [sys.executable, "-c", "import lightning.pytorch"]


def ratio(bench: Bench, pairs: int = 5) -> float:
    """Of processes; no model is needed."""
    return bench.ratio(partial(_run, _HELP), partial(_run, _IMPORT), pairs)


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
