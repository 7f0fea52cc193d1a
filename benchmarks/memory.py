"""Peak memory of a process that scores the original alone, or many variants beside it."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.model import batch, model, patches
from harness.models.head import ChunkedHead
from harness.scoring import score_batch

BOUND = 1.15
TAKES = "about three minutes on two cores"
# A shallower model would be faster, and another claim: what variants add would be set beside fewer
# weights (six layers gave 1.22 and 1.28).


def ratio() -> float:
    """Peak memory with four variants of three controls each, by that of the original alone."""
    return _peak_of_a_process(variants=4) / _peak_of_a_process(variants=0)


def _peak_of_a_process(variants: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", str(variants)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Scores a batch and prints this process's peak resident memory."""
    llama = model()
    made = patches(llama, variants=int(sys.argv[1]), controls=3)
    head = ChunkedHead(llama)
    # Before the scoring and not within it, where even a small allocation could change the peak.
    print(f"  scoring the original and {len(made)} patches", file=sys.stderr, flush=True)
    score_batch(head, *batch(), made).read()
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
