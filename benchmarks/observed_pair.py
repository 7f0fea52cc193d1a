"""A step as `validate` makes it, of the original and one variant, against two forwards."""

from __future__ import annotations

import torch

from benchmarks.shapes import Bench
from harness.data import WindowBatch
from harness.evaluation.design import Subject
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.step import StepResult
from harness.probes import Observer, Sites

CLAIM = "original and one variant scored and observed, by two bare forwards"
BOUNDS = {"cpu": {"135M": 1.25}, "cuda": {"135M": 1.9, "1B": 1.2, "8B": 1.1}}
_STEPS = 3


def ratio(bench: Bench, pairs: int = 5) -> float:
    """Of steps one after the other, what each gave being read when the next is on its way."""
    ids, mask, targets = bench.batch
    numbers = torch.arange(len(ids))
    batch = WindowBatch(0, numbers, numbers, ids, mask, targets)
    subjects = [
        Subject(name, intervention)
        for name, intervention in bench.patches(variants=1, controls=0).items()
    ]
    observer = Observer(bench.model, Sites().find(bench.model))
    evaluator = Evaluator(bench.head, subjects, observer=observer)

    def steps() -> None:
        last: StepResult | None = None
        for _ in range(_STEPS):
            step = evaluator.step(batch)
            assert last is None or last.outcomes
            last = step
        assert last is not None
        assert last.outcomes

    def forwards() -> None:
        for _ in range(2 * _STEPS):
            bench.bare()

    return bench.ratio(steps, forwards, pairs)
