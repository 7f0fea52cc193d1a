"""A run: its folder, its journal of steps, and all that writes into it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from harness.base.files import write_text
from harness.base.stages import stage
from harness.evaluation.design import Design
from harness.evaluation.measurement import Measurement, Totals
from harness.evaluation.step import StepResult
from harness.evaluation.summary import summarise
from harness.probes import Moments, Site
from harness.results.schema import Results, RunRecord
from harness.tracking.run_folder import RunFolder
from harness.tracking.writer import Writer


class Run:
    """One call of the command line: what it measures goes to every writer, step by step.

    Args:
        folder: Its folder.
        writers: What keeps its parts.
        config: Text of config.yaml; None where a program called the harness.

    Attributes:
        measurement: What was measured so far; None between measurements.
        totals: What the last measurement came to, added up.
        results: The same in figures, also where they could not be written.
        has_begun: Whether anything was measured or trained.
    """

    def __init__(
        self, folder: RunFolder, writers: Sequence[Writer], config: str | None = None
    ) -> None:
        self.folder = folder
        self.writers = writers
        self.measurement: Measurement | None = None
        self.totals: Totals | None = None
        self.results: Results | None = None
        self.has_begun = False
        self._journal = folder.path / "journal"
        if config is not None:
            write_text(folder.path / "config.yaml", config)
        for writer in writers:
            writer.open(folder)

    def begin(self, design: Design, *, measures: bool = True) -> None:
        """Begins a measurement, or a training.

        Args:
            design: What is measured.
            measures: Whether the steps make results; those of a training do not.
        """
        self.folder.set_status("running")
        self.has_begun = True
        self.design = design
        self._drop_journal()
        if measures:
            self._journal.mkdir()
            self.measurement = Measurement(self._journal / "0.steps")
        for writer in self.writers:
            writer.begin(design)

    def step(self, step: StepResult) -> None:
        """Keeps what a batch gave; what belongs to no batch of the plan is left out."""
        if step.number < 0:
            return
        if self.measurement is not None:
            self.measurement.add(step)
        for writer in self.writers:
            writer.step(step)

    def weights(self, number: int, weights: Mapping[Site, Moments]) -> None:
        """Keeps what the weights are like after a step of a training."""
        for writer in self.writers:
            writer.weights(number, weights)

    def finish(self, record: RunRecord) -> None:
        """Makes results of what was measured, and keeps them.

        Args:
            record: How they were made.
        """
        assert self.measurement is not None  # or there is nothing to finish
        with stage("intervals and tests"):
            self.totals = self.measurement.totals()
            self.results = summarise(self.totals, self.design, record)
        for writer in self.writers:
            writer.finish(self.results, self.totals, self.design)
        self._close_writers()
        self.folder.set_status("complete")
        self._drop_journal()

    def close(self) -> None:
        """Completes all files; the journal of a measurement that did not end stays."""
        if self.measurement is not None:
            self.measurement.close()
        self._close_writers()

    def stop(self, *, refused: bool) -> None:
        """Ends a run that could not go on.

        Args:
            refused: Whether it was refused: if nothing had begun, it leaves no folder.
        """
        if refused and not self.has_begun:
            self.folder.discard()
            return
        self.folder.set_status("interrupted")
        self.close()

    def _close_writers(self) -> None:
        """Closes every writer, also if one of them fails."""
        with ExitStack() as stack:
            for writer in reversed(self.writers):
                stack.callback(writer.close)

    def _drop_journal(self) -> None:
        """Removes the steps of a measurement, once all is kept that was made of them."""
        if self.measurement is not None:
            self.measurement.close()
            self.measurement = None
        shutil.rmtree(self._journal, ignore_errors=True)
