"""The TensorBoard logger: one folder per variant inside the run folder."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from harness import report
from harness.evaluation.design import Design
from harness.evaluation.measurement import Totals
from harness.evaluation.step import StepResult
from harness.probes import Moments, Site
from harness.results.schema import ORIGINAL, Results
from harness.tracking.events import EventFiles
from harness.tracking.run_folder import RunFolder
from harness.tracking.tags import (
    activation_tags,
    final_metrics,
    hyperparameters,
    layers_shown,
    score_tags,
    weight_tags,
)
from harness.tracking.writer import Writer


class RunLogger(Logger, Writer):
    """Writes scalars for TensorBoard into one folder per variant, so that equal tags overlay.

    What `fit` logs goes to the folder `original`. The logger writes into the run's own folder,
    which the recorder gives it; without a recorder it writes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder: RunFolder | None = None
        self._files: EventFiles | None = None
        self._pending: dict[str, tuple[int, dict[str, float]]] = {}
        self._names: set[str] = set()
        self._layers: set[int] = set()

    @property
    def name(self) -> str | None:
        """Name of the experiment."""
        return self._folder.name if self._folder else None

    @property
    def version(self) -> int | None:
        """Number of the run."""
        return self._folder.version if self._folder else None

    @property
    def save_dir(self) -> str | None:
        """The run folder itself; Lightning's ``trainer.log_dir`` returns it."""
        return str(self._folder.path) if self._folder else None

    # -- what a run measures -----------------------------------------------------------------

    def open(self, folder: RunFolder) -> None:
        """Names the folder that is written to."""
        self._folder = folder
        self._files = EventFiles(folder.path)

    def begin(self, design: Design) -> None:
        """Begins a measurement: floors have no folder."""
        super().begin(design)
        self._names = {ORIGINAL, *(subject.name for subject in design.reported)}
        self._layers = layers_shown(design.sites)

    def cut(self, first: int) -> None:
        """Has TensorBoard pass over a step of an earlier attempt and those after it."""
        assert self._files is not None  # a run opens its writers first
        self._files.cut(first)

    def step(self, step: StepResult) -> None:
        """Writes the scores of a batch, and what was observed."""
        for name, outcome in step.outcomes.items():
            if name not in self._names:
                continue
            scores = score_tags(outcome.tally, step.original.tally) if step.is_scored else {}
            flow = activation_tags(outcome.moments, self._layers)
            self.scalars(name, scores | flow, step.number)

    def weights(self, number: int, weights: Mapping[Site, Moments]) -> None:
        """Writes what the weights are like after a step of a training."""
        self.scalars(ORIGINAL, weight_tags(weights), number)

    def finish(self, results: Results, totals: Totals, design: Design) -> None:
        """Writes the texts side by side, and a row of the HParams page for each variant."""
        if rows := totals.text_rows(design):
            self.text(ORIGINAL, "generations/side_by_side", report.html_table(rows))
        for name, record in (results.variants | results.controls).items():
            # Of the controls, `predict` looks at the first alone.
            if record.likelihood is not None or record.generation is not None:
                parameters = hyperparameters(name, record, results)
                self.row(name, parameters, final_metrics(record))

    @rank_zero_only
    def row(
        self, variant: str, params: Mapping[str, str | int], metrics: Mapping[str, float]
    ) -> None:
        """Writes a row of the HParams page, and its metrics as scalars.

        Args:
            variant: The folder.
            params: What tells it from other rows.
            metrics: The variant's figures, the same tags in every folder.
        """
        if self._files is None:
            return
        from torch.utils.tensorboard.summary import hparams

        last = self._next
        for summary in hparams(dict(params), dict(metrics)):  # type: ignore[no-untyped-call]
            self._files.add(variant, summary, last)
        self.scalars(variant, metrics, last - self._first)
        self._next = last  # the rows of all variants stand at one step

    @rank_zero_only
    def text(self, variant: str, tag: str, markup: str) -> None:
        """Writes a text of Markdown or a table of HTML."""
        if self._files is not None:
            from torch.utils.tensorboard.summary import text

            self._files.add(variant, text(tag, markup), self._next)  # type: ignore[no-untyped-call]

    @rank_zero_only
    def scalars(self, variant: str, values: Mapping[str, float], number: int) -> None:
        """Writes scalars; those of one step, whoever gives them, become one summary.

        Args:
            variant: The folder.
            values: Scalars by tag; a card is made for each first segment of a tag.
            number: The step, within the measurement.
        """
        if self._files is None or not values:
            return
        place = self.place(number)
        if variant in self._pending and self._pending[variant][0] != place:
            self._write(variant)
        self._pending.setdefault(variant, (place, {}))[1].update(values)

    # -- what Lightning logs -----------------------------------------------------------------

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes what Lightning logs during `fit`."""
        values = {tag: value for tag, value in metrics.items() if tag != "epoch"}
        self.scalars(ORIGINAL, values, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Does nothing: the configuration stands in config.yaml."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes what is kept back, so that TensorBoard shows everything."""
        for variant in list(self._pending):
            self._write(variant)
        if self._files is not None:
            self._files.flush()

    def flush(self) -> None:
        """Writes what is kept back."""
        self.finalize("running")

    close = flush

    def _write(self, variant: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        step, values = self._pending.pop(variant)
        # One protocol buffer for all tags: one for each would cost thirty times as much.
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=float(x)) for tag, x in values.items()]
        )
        assert self._files is not None  # or nothing would have been kept back
        self._files.add(variant, summary, step)
