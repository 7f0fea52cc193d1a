"""The TensorBoard logger: one folder per variant inside the run folder."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.writer import FileWriter

    from harness.tracking.run_folder import RunFolder


class RunLogger(Logger):
    """Writes scalars for TensorBoard into one folder per variant, so that equal tags overlay.

    What `fit` logs goes to the folder `original`. The logger writes into the run's own folder,
    which it is given by the recorder; without a recorder it writes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder: RunFolder | None = None
        self._writers: dict[str, SummaryWriter] = {}
        self._pending: dict[str, tuple[int, dict[str, float]]] = {}
        self._offset = 0
        self._next = 0

    def attach(self, folder: RunFolder) -> None:
        """Names the folder that is written to."""
        self._folder = folder

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

    def begin(self) -> None:
        """Begins a measurement: its steps go on after those of the one before."""
        self._offset = self._next

    @rank_zero_only
    def scalars(self, variant: str, values: Mapping[str, float], step: int) -> None:
        """Writes scalars; those of one step, whoever gives them, become one summary.

        Args:
            variant: The folder.
            values: Scalars by tag; a card is made for each first segment of a tag.
            step: Position on the horizontal axis, within the measurement.
        """
        if self._folder is None or not values:
            return
        step += self._offset
        self._next = max(self._next, step + 1)
        if variant in self._pending and self._pending[variant][0] != step:
            self._write(variant)
        self._pending.setdefault(variant, (step, {}))[1].update(values)

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
        if self._folder is None:
            return
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(params), dict(metrics)):  # type: ignore[no-untyped-call]
            self._events(variant).add_summary(summary, self._next)
        step = self._next
        self.scalars(variant, metrics, step - self._offset)
        self._next = step  # the rows of all variants stand at one step

    @rank_zero_only
    def text(self, variant: str, tag: str, markup: str) -> None:
        """Writes a text of Markdown or a table of HTML."""
        if self._folder is not None:
            self._writer(variant).add_text(tag, markup, self._next)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes what Lightning logs during `fit`."""
        values = {tag: value for tag, value in metrics.items() if tag != "epoch"}
        self.scalars("original", values, step or 0)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Does nothing: the configuration stands in config.yaml."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flushes, so that TensorBoard shows everything; the writers stay open."""
        for variant in list(self._pending):
            self._write(variant)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Closes every file."""
        self.finalize("closed")
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, variant: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        step, values = self._pending.pop(variant)
        # One protocol buffer for all tags: add_scalar would cost thirty times as much.
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=float(x)) for tag, x in values.items()]
        )
        self._events(variant).add_summary(summary, step)

    def _events(self, variant: str) -> FileWriter:
        events = self._writer(variant).file_writer
        assert events is not None  # only a closed SummaryWriter has none
        return events

    def _writer(self, variant: str) -> SummaryWriter:
        if variant not in self._writers:
            from torch.utils.tensorboard import SummaryWriter

            assert self._folder is not None
            folder = Path(self._folder.path) / variant
            self._writers[variant] = SummaryWriter(str(folder), max_queue=1000)
        return self._writers[variant]


def run_loggers(trainer: Trainer) -> list[RunLogger]:
    """The run loggers among a trainer's loggers."""
    return [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
