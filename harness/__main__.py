"""``python -m harness``."""

import os
import sys

# Threads that wait for each other should sleep: on a machine that others use too, spinning made
# the demo five times slower. OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Large pages where Linux gives them on request: logits are made and freed at every chunk, and a
# fault for each 4 KiB of them is a good part of a run on a small machine.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Where a process is killed, C++ would print its stack in every other, before the line that says so.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

from harness.base.console import interrupted
from harness.base.signals import Interrupted, listen


def run() -> None:
    """Runs the command line and exits with its status."""
    listen()  # here, so that a signal gets its word from the first import on
    try:
        from harness.cli import main

        sys.exit(main())
    except Interrupted:
        sys.exit(interrupted())


if __name__ == "__main__":
    run()
