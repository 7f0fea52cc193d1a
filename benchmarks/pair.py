"""Original and one variant, scored with likelihood, divergence and agreement, against a forward."""

from __future__ import annotations

from benchmarks.shapes import Bench
from harness.scoring import score_batch

CLAIM = "original and one variant scored, by the bare forward with logits"
BOUNDS = {"cpu": {"135M": 2.3}, "cuda": {"135M": 2.15, "1B": 2.06, "8B": 2.03}}


def ratio(bench: Bench, pairs: int = 7) -> float:
    """Of a batch of which every token is scored."""
    variant = bench.patches(variants=1, controls=0)

    def scored() -> None:
        score_batch(bench.head, *bench.batch, variant).read()

    return bench.ratio(scored, bench.bare, pairs)
