"""The bare forward with every site observed, against the forward alone."""

from __future__ import annotations

from benchmarks.shapes import Bench
from harness.probes import Observer, Sites

CLAIM = "every site observed at every step, by the bare forward with logits"
BOUNDS = {"cpu": {"135M": 1.1}, "cuda": {"135M": 1.8, "1B": 1.12, "8B": 1.06}}


def ratio(bench: Bench, pairs: int = 15) -> float:
    """Sites are all that are observed by default, with all statistics."""
    observer = Observer(bench.model, Sites().find(bench.model))
    _, mask, _ = bench.batch

    def observed() -> None:
        with observer.watching(mask, "original") as seen:
            bench.bare()
        assert seen.moments

    return bench.ratio(observed, bench.bare, pairs)
