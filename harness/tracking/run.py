"""A run: its folder, its journal of steps, and all that writes into it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from harness.base.console import note
from harness.base.files import write_text
from harness.base.processes import Processes
from harness.base.stages import stage
from harness.evaluation.design import Design
from harness.evaluation.measurement import Measurement, Totals
from harness.evaluation.recall import VERSION, Recall
from harness.evaluation.step import StepResult
from harness.evaluation.summary import summarise
from harness.probes import Moments, Site
from harness.results.schema import Results, RunRecord
from harness.tracking.gathering import Gathering
from harness.tracking.meetings import Meetings, end_if_asked
from harness.tracking.run_folder import RunFolder
from harness.tracking.writer import Writer


class Run:
    """One call of the command line: what it measures goes to every writer, step by step.

    Each process keeps its steps in a file of its own in the journal. The first follows the files of
    the others and hands all steps to the writers in the order of the plan.

    Args:
        folder: Its folder.
        writers: What keeps its parts; they are called in the first process alone.
        config: Text of config.yaml; None where a program called the harness.
        processes: The processes that take part.
        resumed: Whether the folder holds an earlier attempt at the same run.

    Attributes:
        recall: What earlier attempts have measured.
        measurement: What was measured so far; None between measurements.
        totals: What the last measurement came to, added up.
        results: The same in figures, also where they could not be written.
        has_begun: Whether anything was measured or trained.
    """

    def __init__(
        self,
        folder: RunFolder,
        writers: Sequence[Writer],
        config: str | None = None,
        processes: Processes | None = None,
        *,
        resumed: bool = False,
    ) -> None:
        self.folder = folder
        self._config = config
        self.processes = processes or Processes()
        self.writers = writers if self.processes.is_first else ()
        self.measurement: Measurement | None = None
        self.totals: Totals | None = None
        self.results: Results | None = None
        self.has_begun = False
        self._is_resumed = resumed
        attempts = folder.attempts() if resumed else {}
        self._earlier = list(attempts)
        self.recall = Recall(self._earlier)
        self._attempt = self.processes.share(max(attempts.values(), default=0))
        if not self.processes.is_first:
            return
        if not resumed:
            self._keep_config()
        for writer in self.writers:
            writer.open(folder)

    def begin(self, design: Design) -> None:
        """Begins a measurement.

        Args:
            design: What is measured.
        """
        self.recall.check(design)
        self._close_measurement()
        if self._earlier and self.processes.is_first:
            self.folder.tidy()  # writers are told of all steps anew
        self._attempt += 1
        self.folder.journal.mkdir(parents=True, exist_ok=True)  # also where no other sees it
        about = {"version": VERSION, "subjects": design.keys, "settings": design.settings}
        self.measurement = Measurement(self._file(self.processes.rank), about)
        self._gathering = Gathering(self.measurement, self.processes, self._file)
        self._is_ending = False
        self._coming: deque[StepResult] = deque()
        self._keep_config()  # of a resumed run, now that nothing of it is refused any more
        self._begin(design)

    def begin_training(self, design: Design, first: int) -> None:
        """Begins a training, whose steps make no results.

        Args:
            design: What is trained and observed.
            first: Number of the step that it begins, or goes on, with.
        """
        self._close_measurement()
        self._begin(design)
        if self._is_resumed:
            for writer in self.writers:
                writer.cut(first)

    def _begin(self, design: Design) -> None:
        self._meetings = Meetings(self.processes)
        self.has_begun = True
        self.design = design
        if self.processes.is_first:
            self.folder.take()
            self.folder.set_status("running")
        for writer in self.writers:
            writer.begin(design)

    def step(self, step: StepResult) -> None:
        """Keeps what a batch gave, and waits until every process is done with its own.

        What a device has yet to give is kept when the next batch is on its way.

        Args:
            step: What the batch gave; what belongs to no batch of the plan is left out.

        Raises:
            Interrupted: If a signal asks any of them to end.
            LostError: If one of them has ended, or hangs.
            EndedElsewhere: If one of them has failed.
        """
        self._coming.append(step)
        # While the next goes on, nothing waits for the device to be done with this one.
        while self._coming and (len(self._coming) > 1 or self._coming[0].is_there):
            self._keep(self._coming.popleft())

    def _keep(self, step: StepResult) -> None:
        assert self.measurement is not None
        self.measurement.add(step)
        kind = "windows" if step.is_scored else "prompts"
        models = len(step.outcomes) if step.number >= 0 else 0
        said = self._meetings.meet(kind, step.number, step.recalled, models)
        self._hand_on(self._gathering.arrived((each.number for each in said), step))
        end_if_asked(said)

    def meet(self, kind: str, *, may_end: bool) -> None:
        """Waits, in a training, until every process is done with its batch.

        Args:
            kind: What kind of batch it was.
            may_end: Whether the training can end here, and be gone on with.

        Raises:
            Interrupted: If a signal asks any of them to end.
            LostError: If one of them has ended, or hangs.
            EndedElsewhere: If one of them has failed.
        """
        said = self._meetings.meet(kind)
        if may_end:
            end_if_asked(said)

    def observe(self, step: StepResult) -> None:
        """Keeps what was observed in a step of a training, by all processes.

        Args:
            step: What this one has observed, of its share of the step.
        """
        others = range(1, self.processes.count)
        for data in self.processes.send(others, step.to_bytes()).values():
            for name, outcome in StepResult.from_bytes(data).outcomes.items():
                step.outcomes[name].add(outcome)
        for writer in self.writers:
            writer.step(step)

    def flush(self) -> None:
        """Writes what was kept so far, so that a killed training can go on from here."""
        for writer in self.writers:
            writer.flush()

    def weights(self, number: int, weights: Mapping[Site, Moments]) -> None:
        """Keeps what the weights are like after a step of a training."""
        for writer in self.writers:
            writer.weights(number, weights)

    def finish(self, record: RunRecord) -> None:
        """Makes results of what all processes have measured, and keeps them.

        Args:
            record: How they were made.
        """
        while self._coming:
            self._keep(self._coming.popleft())
        self._is_ending = True
        self._hand_on(self._gathering.rest())
        if self.processes.is_first:
            if known := self._meetings.recalled:
                part = f"{known:,} of {self._meetings.models:,} measurements"
                note(f"{part}, each of a model on a batch, are of earlier attempts")
            self._write(record)
            self._drop_earlier()
            self.folder.set_status("complete")
        self._close_measurement()

    def stop(self, record: RunRecord | None, *, refused: bool) -> None:
        """Ends a run that could not go on, and keeps what was measured so far as partial results.

        Args:
            record: How they were made; None where the other processes do not know of the end, and
                what they have cannot be asked for.
            refused: Whether it was refused: if nothing had begun, it leaves no folder.
        """
        if refused and not self.has_begun:
            if self.processes.is_first:
                self.folder.discard()
            return
        try:
            if self.processes.is_first:
                self.folder.set_status("interrupted")
            # Results that were being made need no second attempt: what they need is in the journal.
            if self.measurement is not None and record is not None and not self._is_ending:
                while self._coming:
                    self.measurement.add(self._coming.popleft())
                self._hand_on(self._gathering.rest())
                if self.processes.is_first and len(self.measurement):
                    self._write(record)
        except Exception as error:  # what ended the run is to be told, whatever else fails
            note(f"no results could be made of what was measured so far: {error}")
        finally:
            self.close()

    def close(self) -> None:
        """Completes all files; the journal stays."""
        self._close_measurement()
        self._close_writers()
        self.folder.release()

    def _keep_config(self) -> None:
        if self._config is not None and self.processes.is_first:
            write_text(self.folder.path / "config.yaml", self._config)

    def _file(self, rank: int, suffix: str = "steps") -> Path:
        return self.folder.journal / f"{self._attempt}-{rank}.{suffix}"

    def _hand_on(self, steps: Iterable[StepResult]) -> None:
        for step in steps:
            for writer in self.writers:
                writer.step(step)

    def _write(self, record: RunRecord) -> None:
        assert self.measurement is not None
        with stage("intervals and tests"):
            self.totals = self.measurement.totals()
            self.results = summarise(self.totals, self.design, record)
        for writer in self.writers:
            writer.finish(self.results, self.totals, self.design)
        self._close_writers()

    def _drop_earlier(self) -> None:
        """Removes the files of earlier attempts that hold nothing more than this one's."""
        assert self.measurement is not None
        for path in self._earlier:
            if self.measurement.has_all_of(path):
                path.unlink()
        self._earlier = []

    def _close_writers(self) -> None:
        """Closes every writer, also if one of them fails."""
        with ExitStack() as stack:
            for writer in reversed(self.writers):
                stack.callback(writer.close)

    def _close_measurement(self) -> None:
        if self.measurement is not None:
            self.measurement.close()
            self.measurement = None
