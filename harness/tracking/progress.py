"""How far a command is: a training by its steps and its loss, anything else by what is done."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import (
    CustomBarColumn,
    ProcessingSpeedColumn,
)

from harness.base import stages
from harness.data import PromptBatch, ScoredText, WindowBatch
from harness.evaluation.experiment import OutlierExperiment
from harness.evaluation.step import StepResult
from harness.tracking.checkpoint import MONITORED, TRAINED
from harness.tracking.writer import Writer

# What is logged, by the names that leave room for the figures in 80 columns.
_SHOWN = {TRAINED: "loss", MONITORED: "val nll"}


class EvaluationProgress(ProgressBar, Writer):
    """Shows on stderr how much of the text is scored, and how many prompts are continued.

    What counts is the work of every model on every batch, by its size, so that the time that is
    left is known from the first model of the first batch on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stage: stages.Stage | None = None
        self._batches: int | None = None
        self._shares = 1
        self._nll = 0.0
        self._tokens = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Learns which command runs."""
        super().setup(trainer, pl_module, stage)
        self._command = str(getattr(stage, "value", stage))

    def disable(self) -> None:
        """Does nothing: stages say nothing in processes that are to be silent."""

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: WindowBatch | PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Begins a stage with its first batch."""
        if batch_idx == 0:
            self._close()
            name = "scoring" if isinstance(batch, WindowBatch) else "writing texts"
            experiment = OutlierExperiment.of(pl_module)
            self._batches = experiment.data.batches(self._command)[dataloader_idx]
            # What this process counts, the others do as well.
            whole = _work(experiment.design.corpus, batch, self._batches)
            self._shares = experiment.data.place[1]
            self._stage = stages.begin(name, whole and whole / self._shares)
            self._stage.say(self._done(0))

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: WindowBatch | PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Counts the batch, and says the original's perplexity so far."""
        if self._stage is None:
            return
        said = self._done((batch_idx + 1) * self._shares)
        if isinstance(batch, WindowBatch) and self._tokens:
            said += f", ppl {_perplexity(self._nll, self._tokens)}"
        self._stage.say(said)

    on_test_batch_end = on_validation_batch_end
    on_predict_batch_end = on_validation_batch_end

    def step(self, step: StepResult) -> None:
        """Adds what a batch gave, whichever process has scored it."""
        if step.is_scored:
            tally = step.original.tally
            self._nll += float(tally.rows.nll.sum())
            self._tokens += tally.tokens

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the last stage."""
        self._close()

    on_test_epoch_end = on_validation_epoch_end
    on_predict_epoch_end = on_validation_epoch_end

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the terminal as it was."""
        self._close()

    def _done(self, batches: int) -> str:
        """How many batches are done, of how many where that is known."""
        if self._batches is None:
            return f"{batches} batches"
        return f"{min(batches, self._batches)}/{self._batches} batches"

    def _close(self) -> None:
        if self._stage is not None:
            stages.end(self._stage)
        self._stage, self._nll, self._tokens = None, 0.0, 0


class TrainingProgress(RichProgressBar):
    """Shows a training by its steps, from the first to the last, whatever an epoch is.

    Beside them stand the loss of the last batch and the nll of the last validation, in nats per
    token.
    """

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """A bar and the time that is left, which says all that a speed would.

        The bar is short: figures would be cut off otherwise.
        """
        columns = super().configure_columns(trainer)
        for column in columns:
            if isinstance(column, CustomBarColumn):
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


def _work(
    corpus: ScoredText | None, first: WindowBatch | PromptBatch, batches: int | None
) -> float | None:
    """How much there is to do: padded ids of windows, or batches of prompts; None: not known."""
    if isinstance(first, PromptBatch) or corpus is None:
        return batches
    return corpus.work(batches)


def _perplexity(nll: float, tokens: int) -> str:
    mean = nll / max(tokens, 1)
    return f"{math.exp(mean):.4g}" if mean < 700 else "infinite"
