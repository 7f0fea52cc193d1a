"""What keeps a part of a run."""

from __future__ import annotations

from collections.abc import Mapping

from harness.evaluation.design import Design
from harness.evaluation.measurement import Totals
from harness.evaluation.step import StepResult
from harness.probes import Moments, Site
from harness.results.schema import Results
from harness.tracking.run_folder import RunFolder


class Writer:
    """Keeps a part of what a run measures; what a writer does not override it does not keep.

    Several measurements may follow one another in a run: their steps go on counting.
    """

    _first = 0
    _next = 0

    def open(self, folder: RunFolder) -> None:
        """Names the folder that is written to."""

    def begin(self, design: Design) -> None:
        """Begins a measurement.

        Args:
            design: What is measured.
        """
        self._first = self._next

    def cut(self, first: int) -> None:
        """Drops what an earlier attempt at a training has kept from a step on: it comes again.

        Args:
            first: The step.
        """

    def step(self, step: StepResult) -> None:
        """Keeps what a batch gave."""

    def weights(self, number: int, weights: Mapping[Site, Moments]) -> None:
        """Keeps what the weights are like after a step of a training.

        Args:
            number: The step.
            weights: Moments by parameter.
        """

    def finish(self, results: Results, totals: Totals, design: Design) -> None:
        """Keeps what a measurement came to."""

    def flush(self) -> None:
        """Writes what was kept so far."""

    def close(self) -> None:
        """Completes the files."""

    def place(self, number: int) -> int:
        """Where a step stands among those of all measurements of the run."""
        place = self._first + number
        self._next = max(self._next, place + 1)
        return place
