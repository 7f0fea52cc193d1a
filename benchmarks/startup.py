"""Time to the command line's help, against that of importing Lightning."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

BOUND = 1.5
TAKES = "about a minute"
_HELP = [sys.executable, "-m", "harness", "validate", "--help"]
_IMPORT = [sys.executable, "-c", "import lightning.pytorch"]


def ratio(pairs: int = 5) -> float:
    """Median over interleaved pairs of processes."""
    _seconds(_HELP), _seconds(_IMPORT)
    return statistics.median(_seconds(_HELP) / _seconds(_IMPORT) for _ in range(pairs))


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began
