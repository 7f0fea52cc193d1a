"""What `fit` does with batches: it trains the model, observes it, and validates it."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from harness.base.processes import Processes
from harness.data import PromptBatch, TextDataModule, WindowBatch
from harness.evaluation.design import Design
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.step import Outcome, StepResult
from harness.models import Pretrained, try_out
from harness.outliers import unique_parameters
from harness.probes import Moments, Site, measure
from harness.probes.settings import ActivationStatistics
from harness.probes.sites import decoder_blocks, kind_and_layer
from harness.results.schema import ORIGINAL
from harness.scoring import Tally

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Fitting:
    """Training; it has no variants, since their entries would move with the weights.

    Args:
        source: Where the model comes from.
        activations: What is observed.
        processes: Those that train together.
    """

    source: Pretrained
    activations: ActivationStatistics
    processes: Processes

    def check(self) -> None:
        """Refuses patterns that match nothing, before any weight is read."""
        self.activations.find(self.source.skeleton)

    def begin(self, model: PreTrainedModel, data: TextDataModule) -> None:
        """Tries the model out, now that its weights are in place."""
        self.model = model
        self._observer = self.activations.observer(model)
        self.evaluator = Evaluator(try_out(self.source, model, data.longest_row()))
        model.train()
        self.design = Design(
            self.source.record(model),
            observed=self.activations.record,
            sites=tuple(self._observer.sites if self._observer else ()),
        )

    def begin_evaluation(self, model: PreTrainedModel, data: TextDataModule) -> None:
        """Begins a validation within the training."""
        self._tally = Tally()
        self._last: StepResult | None = None

    def step(self, batch: WindowBatch | PromptBatch) -> StepResult:
        """Scores a batch of the validation."""
        result = self.evaluator.step(batch)
        self._count_last()  # whose device has had something else to do since
        self._last = result
        return result

    def _count_last(self) -> None:
        if self._last is not None and self._last.number >= 0:
            self._tally.merge(self._last.original.tally)
        self._last = None

    def figures(self) -> dict[str, float]:
        """What the validation gave in all processes, by the tag under which it is logged."""
        self._count_last()
        rows = np.concatenate(self.processes.meet(np.asarray(self._tally.rows)))
        return {"likelihood/nll": math.fsum(rows["nll"].tolist()) / int(rows["tokens"].sum())}

    def train(
        self, batch: WindowBatch, number: int, *, first: bool
    ) -> tuple[Tensor, StepResult | None]:
        """Next-token loss of one batch, in nats per token, and what was observed.

        Args:
            batch: Windows.
            number: Number of the optimiser's step.
            first: Whether it is the first batch of the step: only that one is observed.

        Returns:
            The loss, and what was observed where it is the step's turn.
        """
        turn = first and number % self.activations.every_n_steps == 0
        observer = self._observer if turn else None
        ids, mask = batch.input_ids, batch.attention_mask
        targets = batch.targets.to(ids.device, non_blocking=True)
        with observer.watching(mask, ORIGINAL) if observer else nullcontext() as seen:
            logits = self.model(ids, attention_mask=mask).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100
        )
        if seen is None:
            return loss, None

        def read() -> dict[str, Outcome]:
            moments = seen.moments.get(ORIGINAL, {})
            return {ORIGINAL: Outcome(moments=moments, unplaced=seen.unplaced)}

        return loss, StepResult(number, read)

    def weights(self) -> dict[Site, Moments]:
        """Moments of every parameter as it is now."""
        stack = decoder_blocks(self.model)
        return {
            Site(name, *kind_and_layer(name, stack)): measure(
                weight.reshape(1, -1) if weight.ndim < 2 else weight.flatten(1),
                self.activations.thresholds,
            )
            for name, weight in unique_parameters(self.model).items()
        }
