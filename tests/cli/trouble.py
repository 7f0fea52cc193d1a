"""A criterion that makes trouble in one process of a run, at one of its steps."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.evaluation.evaluator import Evaluator
from harness.outliers import AbsoluteThreshold


@dataclass(frozen=True)
class Trouble(AbsoluteThreshold):
    """Selects what AbsoluteThreshold does, and makes a later step go wrong.

    Args:
        how: `raise`, `memory`, `hang`, `stop`, `kill`, or the name of a signal.
        rank: In which process.
        step: At which of its steps, from 0.
    """

    threshold: float = 0.05
    how: str = "raise"
    rank: int = 0
    step: int = 1

    def select(self, weight: Tensor) -> Tensor:
        if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == self.rank:
            _plan(self)
        return super().select(weight)


_planned: set[Trouble] = set()


def _plan(trouble: Trouble) -> None:
    if trouble in _planned:
        return
    _planned.add(trouble)
    name = "_score"
    run, steps = getattr(Evaluator, name), iter(range(1000))

    def go_wrong(self: Evaluator, batch: Any, subjects: Any) -> Any:
        if trouble.how == "memory":
            if len(batch.input_ids) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 EiB.")
        elif next(steps) == trouble.step:
            _do(trouble.how)
        return run(self, batch, subjects)

    setattr(Evaluator, name, go_wrong)


def _do(how: str) -> None:
    if how == "raise":
        raise RuntimeError("the cable was pulled")
    if how == "hang":
        time.sleep(1000)
    if how == "full":
        raise OSError(28, "No space left on device")
    os.kill(os.getpid(), getattr(signal, {"stop": "SIGSTOP", "kill": "SIGKILL"}.get(how, how)))
