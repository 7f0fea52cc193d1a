"""What a run has measured: the results of its steps, each once, in a file."""

from __future__ import annotations

import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness.evaluation.step import Outcome, StepResult

# In front of each step: its number, its length in bytes, and a checksum of all three.
_HEAD = struct.Struct("<qQI")


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


class Measurement:
    """The results of steps, which may come in any order and from any number of processes.

    They lie in a file, and only their places in memory, so that a long run needs no more of it than
    a short one. Whoever reads them does so in the order of the plan: sums are the same to the last
    bit, however the steps arose.

    Args:
        path: The file, which is made anew and grows while a run goes on: what a killed run leaves
            can be read. None: a temporary file.
    """

    def __init__(self, path: Path | None = None) -> None:
        # Open for as long as the measurement lives.
        file: Any = tempfile.TemporaryFile() if path is None else path.open("w+b")  # noqa: SIM115
        self._file: IO[bytes] = file
        weakref.finalize(self, file.close)
        self._places: dict[int, tuple[int, int]] = {}

    @classmethod
    def read(cls, path: Path) -> Measurement:
        """The steps that another process, or a killed run, has written, up to one that is damaged.

        Args:
            path: The file.
        """
        measurement, size = cls(), path.stat().st_size
        with path.open("rb") as file:
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                number, length, _ = _HEAD.unpack(head)
                data = file.read(length) if length <= size else b""
                if _head(number, data) != head:
                    break
                measurement._put(number, data)
        return measurement

    def add(self, step: StepResult) -> None:
        """Adds what a batch gave; what belongs to no batch of the plan is left out.

        Args:
            step: The result of a step.

        Raises:
            ValueError: If the step was measured before, and differently.
        """
        if step.number >= 0:
            self._put(step.number, step.to_bytes())

    def merge(self, other: Measurement) -> None:
        """Adds the steps of another measurement of the same plan.

        Args:
            other: What another process has measured.

        Raises:
            ValueError: If both have measured a step, and differently.
        """
        for number in other._places:
            self._put(number, other._bytes(number))

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self._places)

    def __contains__(self, number: int) -> bool:
        """Whether a step is there."""
        return number in self._places

    def __iter__(self) -> Iterator[StepResult]:
        """Reads the steps in the order of the plan."""
        for number in sorted(self._places):
            yield StepResult.from_bytes(self._bytes(number))

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
                part.setdefault(name, Outcome()).add(outcome)
        return totals

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _put(self, number: int, data: bytes) -> None:
        if number in self._places:
            if self._bytes(number) != data:
                raise ValueError(f"step {number} was measured twice, and differently")
            return
        start = self._file.seek(0, 2) + _HEAD.size
        self._file.write(_head(number, data) + data)
        self._file.flush()
        self._places[number] = start, len(data)

    def _bytes(self, number: int) -> bytes:
        start, length = self._places[number]
        self._file.seek(start)
        return self._file.read(length)


def _head(number: int, data: bytes) -> bytes:
    checksum = zlib.crc32(_HEAD.pack(number, len(data), 0) + data)
    return _HEAD.pack(number, len(data), checksum)
