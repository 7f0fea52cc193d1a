"""What a run has measured: the results of its steps, each once, in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.evaluation.design import Design
from harness.evaluation.step import Outcome, StepResult
from harness.evaluation.step_file import Place, StepFile
from harness.evaluation.texts import text_rows
from harness.results.schema import ORIGINAL


@dataclass
class Totals:
    """Everything that was measured, added up in the order of the plan.

    Attributes:
        scored: By model, what its windows gave.
        continued: By model, what its prompts gave.
        notes: What a reader should know of the models, one sentence each.
    """

    scored: dict[str, Outcome] = field(default_factory=dict)
    continued: dict[str, Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _rows: list[dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    def text_rows(self, design: Design) -> list[dict[str, Any]]:
        """The rows of ``generations.jsonl``, made once; none where no text was written.

        Args:
            design: What was measured.
        """
        if self._rows is None:
            texts = {name: outcome.texts for name, outcome in self.continued.items()}
            written = text_rows(texts, design.prompts, ORIGINAL, design.decode) if texts else ()
            self._rows = list(written)
        return self._rows


class Measurement:
    """The results of steps, which may come in any order and from any number of processes.

    They lie in files, and only their places in memory, so that a long run needs no more of it than
    a short one. Whoever reads them does so in the order of the plan: sums are the same to the last
    bit, however the steps arose.

    Args:
        path: The file of what is added here, which is made anew and grows while a run goes on: what
            a killed run leaves can be read. None: a temporary file.
        about: What the steps are of.

    Attributes:
        own: The file of what is added here.
    """

    def __init__(self, path: Path | None = None, about: Mapping[str, Any] | None = None) -> None:
        self.own = StepFile(path, about or {})
        self._others: dict[Path, StepFile] = {}
        self._places: dict[int, Place] = {}

    @classmethod
    def read(cls, path: Path) -> Measurement:
        """The steps that another process, or a killed run, has written, up to one that is damaged.

        Args:
            path: The file.
        """
        measurement = cls()
        measurement.follow(path)
        return measurement

    def add(self, step: StepResult) -> None:
        """Adds what a batch gave; what belongs to no batch of the plan is left out.

        Args:
            step: The result of a step.

        Raises:
            ValueError: If the step was measured before, and differently.
        """
        if step.number >= 0:
            self._put(step.number, step.to_bytes(), step.key)

    def merge(self, other: Measurement) -> None:
        """Adds the steps of another measurement of the same plan.

        Args:
            other: What another process has measured.

        Raises:
            ValueError: If both have measured a step, and differently.
        """
        for number, place in other._places.items():
            self._put(number, place.read(), place.key)

    def follow(self, path: Path) -> int:
        """Adds the steps that another process has written by now; they stay where they are.

        Args:
            path: The file, of which only what is new since it was last followed is read; it may not
                be there yet.

        Returns:
            How many steps of it there are by now.

        Raises:
            ValueError: If it holds a step that was measured before, and differently.
        """
        if path not in self._others:
            if not path.exists():
                return 0
            self._others[path] = StepFile(path)
        file = self._others[path]
        for number, place in file.news():
            if number not in self._places or self._is_new(number, place.read()):
                self._places[number] = place
        return len(file)

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self._places)

    def __contains__(self, number: int) -> bool:
        """Whether a step is there."""
        return number in self._places

    def __getitem__(self, number: int) -> StepResult:
        """Reads a step."""
        return StepResult.from_bytes(self._places[number].read())

    def __iter__(self) -> Iterator[StepResult]:
        """Reads the steps in the order of the plan."""
        for number in self.numbers():
            yield self[number]

    def numbers(self) -> list[int]:
        """The numbers of all steps, in the order of the plan."""
        return sorted(self._places)

    def has_all_of(self, path: Path) -> bool:
        """Whether all that a file holds was measured here as well.

        Args:
            path: A file of steps.
        """
        file = StepFile(path)
        keys = {place.key for _, place in file.news()}
        subjects = set(file.about.get("subjects", {}).values())
        ours = set(self.own.about.get("subjects", {}).values())
        return keys <= {place.key for place in self._places.values()} and subjects <= ours

    def totals(self) -> Totals:
        """Adds up all steps; of the notes on a model each stands once, as it came up first."""
        totals = Totals()
        noted: set[str] = set()
        for step in self:
            part = totals.scored if step.is_scored else totals.continued
            for name, outcome in step.outcomes.items():
                if outcome.notes and name not in noted:
                    noted.add(name)
                    totals.notes += outcome.notes
                if name not in part:
                    part[name] = Outcome()
                part[name].add(outcome)
        return totals

    def close(self) -> None:
        """Closes the files."""
        for file in (self.own, *self._others.values()):
            file.close()

    def _put(self, number: int, data: bytes, key: str) -> None:
        if self._is_new(number, data):
            self._places[number] = self.own.append(number, data, key)

    def _is_new(self, number: int, data: bytes) -> bool:
        known = self._places.get(number)
        if known is not None and known.read() != data:
            raise ValueError(f"step {number} was measured twice, and differently")
        return known is None
