"""The progress bar: a training by its steps and its loss, anything else by its batches."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import (
    CustomBarColumn,
    ProcessingSpeedColumn,
)

from harness.tracking.checkpoint import MONITORED, TRAINED

# What is logged, by the names that leave room for the figures in 80 columns.
_SHOWN = {TRAINED: "loss", MONITORED: "val nll"}


class StepProgressBar(RichProgressBar):
    """Shows a training by its steps, from the first to the last, whatever an epoch is.

    Beside them stand the loss of the last batch and the nll of the last validation, in nats per
    token. Other commands count their batches, as Lightning does.
    """

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """A bar and the time that is left, which says all that a speed would.

        In a training the bar is short: figures would be cut off otherwise.
        """
        columns = super().configure_columns(trainer)
        for column in columns:
            if isinstance(column, CustomBarColumn) and trainer.state.fn == "fit":
                column.bar_width = 10
        return [column for column in columns if not isinstance(column, ProcessingSpeedColumn)]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Loss and nll under short names; the batches that try the validation out give none."""
        if trainer.sanity_checking:
            return {}
        found = super().get_metrics(trainer, pl_module)
        return {name: found[key] for key, name in _SHOWN.items() if key in found}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on where the epoch before ended."""
        self._count(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Counts the step."""
        self._update_metrics(trainer, pl_module)
        self._count(trainer)

    def _count(self, trainer: Trainer) -> None:
        if self.progress is None:
            return
        if self.train_progress_bar_id is None:
            steps = trainer.estimated_stepping_batches
            self.train_progress_bar_id = self.progress.add_task("Training", total=steps)
        self.progress.update(self.train_progress_bar_id, completed=trainer.global_step)
        self.refresh()
