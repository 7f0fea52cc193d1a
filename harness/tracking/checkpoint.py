"""Checkpoints of `fit` as Hugging Face folders."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer

from harness.base.console import note
from harness.base.signals import Interrupted
from harness.evaluation.experiment import OutlierExperiment
from harness.tracking.ending import validate_anew

if TYPE_CHECKING:
    from harness.tracking.recorder import RunRecorder

INTERRUPTED = "interrupted.ckpt"
"""Where a training stood when it was interrupted: its weights, optimiser and place."""

TRAINED, MONITORED = "likelihood/train_nll", "likelihood/nll"


class HuggingFaceCheckpoint(Callback):
    """Saves model and tokenizer after each validation of `fit`: the last state and the best.

    They lie in ``checkpoints/last`` and ``checkpoints/best`` of the run folder and are loaded as
    any other model, with ``--model.pretrained``.

    Args:
        recorder: The owner of the run folder.
    """

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder
        self.best = math.inf

    def state_dict(self) -> dict[str, float]:
        """The best nll so far, so that a training that goes on knows it."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Takes up the best nll of the training that is gone on with."""
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the state that was just validated."""
        if trainer.sanity_checking:
            return
        self._save(pl_module, "last")
        nll = float(trainer.callback_metrics.get(MONITORED, math.inf))
        if nll < self.best:
            self.best = nll
            self._save(pl_module, "best")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the final state, and says if it is one that no training would be worth."""
        self._save(pl_module, "last")
        run = self.recorder.run
        if run is not None and run.processes.is_first:  # nothing is to be gone on with from there
            (run.folder.path / "checkpoints" / INTERRUPTED).unlink(missing_ok=True)
        last = [trainer.callback_metrics.get(name) for name in (TRAINED, MONITORED)]
        diverged = any(value is not None and not math.isfinite(value) for value in last)
        if diverged:
            note("the training diverged: its nll is not finite; try a lower learning rate")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Saves where a training stood that a signal has ended, to be gone on with."""
        run = self.recorder.run
        # Of a step that was cut short nothing can be said.
        if isinstance(exception, Interrupted) and exception.agreed and run is not None:
            self._save(pl_module, "last")
            if trainer.validating:
                validate_anew(trainer)
            trainer.save_checkpoint(run.folder.path / "checkpoints" / INTERRUPTED)

    def _save(self, pl_module: LightningModule, name: str) -> None:
        run = self.recorder.run
        if run is not None and run.processes.is_first:
            experiment = OutlierExperiment.of(pl_module)
            experiment.source.save(experiment.model, run.folder.path / "checkpoints" / name)
