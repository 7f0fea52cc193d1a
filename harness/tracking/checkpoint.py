"""Checkpoints of `fit` as Hugging Face folders."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning.pytorch import Callback, LightningModule, Trainer

from harness.base.console import note
from harness.evaluation.experiment import OutlierExperiment

if TYPE_CHECKING:
    from harness.tracking.recorder import RunRecorder

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
        last = [trainer.callback_metrics.get(name) for name in (TRAINED, MONITORED)]
        diverged = any(value is not None and not math.isfinite(value) for value in last)
        if diverged and self.recorder.folder is not None:
            note("the training diverged: its nll is not finite; try a lower learning rate")

    def _save(self, pl_module: LightningModule, name: str) -> None:
        if self.recorder.folder is None:  # only the first process has one
            return
        experiment = OutlierExperiment.of(pl_module)
        folder = self.recorder.folder.path / "checkpoints" / name
        experiment.source.save(experiment.model, folder)
