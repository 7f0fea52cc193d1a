"""The end of a run that is not complete: where a training may end, and who knows of it."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Trainer

from harness.base import signals
from harness.base.processes import EndedElsewhere, LostError, Processes
from harness.errors import ConfigError


def may_end(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a training can end after a batch and go on with the next, and nothing is lost.

    Gradients that are to be added up, and a validation, come after a batch.
    """
    done = batch_idx + 1
    if trainer.check_val_every_n_epoch is None:
        done = trainer.fit_loop.total_batch_idx + 1
    return not (
        trainer.is_last_batch
        or (batch_idx + 1) % trainer.accumulate_grad_batches
        or done % (trainer.val_check_batch or math.inf) == 0
    )


def all_know(processes: Processes, exception: BaseException) -> bool:
    """Whether all processes know of the end of a run, which then end alike.

    Args:
        processes: Those of the run.
        exception: What ends this one.
    """
    if processes.count == 1:
        return True
    if isinstance(exception, LostError):
        return False
    if isinstance(exception, EndedElsewhere):
        return True
    if isinstance(exception, signals.Interrupted):
        return exception.agreed
    if isinstance(exception, ConfigError):
        return processes.fail(str(exception), 2)
    line = " ".join(f"{type(exception).__name__}: {exception}".split())
    return processes.fail(line, 1)


def validate_anew(trainer: Trainer) -> None:
    """Has a training that goes on begin with the validation that was cut short, from its start.

    Lightning goes back to one by these counts, and would go on in the middle of it.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.current.reset()
    total: Any = progress.total
    total.ready = total.started
    total.processed = total.completed = total.started - 1
