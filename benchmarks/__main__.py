"""``python -m benchmarks``: every bound, what was measured, and whether it holds."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks import decode, finding, hooks, memory, speed, startup

CLAIMS = (
    ("original + one variant scored, by the bare forward with logits", speed),
    ("every site observed, by the bare forward with logits", hooks),
    ("prompts continued by original + three variants, by the original alone", decode),
    ("peak memory with 4 variants and 12 controls, by the original alone", memory),
    ("4 variants with 3 controls each found, by one look at all weights", finding),
    ("--help, by importing lightning.pytorch", startup),
)


def main() -> int:
    """Measures each claim; the exit status is 1 if one does not hold."""
    broken = 0
    for claim, module in CLAIMS:
        print(f"measuring {claim}: {module.TAKES}", file=sys.stderr, flush=True)
        measured = module.ratio()
        holds = measured <= module.BOUND
        broken += not holds
        verdict = "holds" if holds else "BROKEN"
        print(f"{claim:68} {measured:5.2f}  (at most {module.BOUND})  {verdict}", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
