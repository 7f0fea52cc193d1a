"""Time to the command line's help, against that of importing Lightning."""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial

from benchmarks.timing import seconds

BOUND = 1.5
TAKES = "about a minute"
_HELP = [sys.executable, "-m", "harness", "validate", "--help"]
_IMPORT = [sys.executable, "-c", "import lightning.pytorch"]


def ratio(pairs: int = 5) -> float:
    """Median over interleaved pairs of processes."""
    _run(_HELP), _run(_IMPORT)
    return statistics.median(
        seconds(partial(_run, _HELP)) / seconds(partial(_run, _IMPORT)) for _ in range(pairs)
    )


def _run(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
