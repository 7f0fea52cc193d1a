"""What a run has measured: the results of its steps, each once, in files."""

from __future__ import annotations

import json
import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from harness.evaluation.design import Design
from harness.evaluation.step import Outcome, StepResult
from harness.evaluation.texts import text_rows
from harness.results.schema import ORIGINAL

# In front of each step: its number, its key, its length in bytes, and a checksum of all four.
_HEAD = struct.Struct("<q16sQI")
# The number of what stands first in a file and is no step: what it is of, as JSON.
_ABOUT = -2


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


class StepFile:
    """A file of steps, which grows while a run goes on and can be read in the meantime.

    Args:
        path: The file, which is made anew if it is written. None: a temporary file.
        about: What the steps are of, where the file is written; None where it is read.

    Attributes:
        about: What the steps are of; nothing where the file holds no such record yet.
    """

    def __init__(self, path: Path | None, about: Mapping[str, Any] | None = None) -> None:
        # Open for as long as the object lives.
        if path is None:
            file: Any = tempfile.TemporaryFile()  # noqa: SIM115
        else:
            file = path.open("rb" if about is None else "w+b")
        self._file: IO[bytes] = file
        weakref.finalize(self, file.close)
        self.about: Mapping[str, Any] = {}
        self._steps = 0
        self._end = 0
        if about is not None:
            self.about = about
            self._write(_ABOUT, json.dumps(about).encode())

    def append(self, number: int, data: bytes, key: str = "") -> Place:
        """Writes a step at the end, in one piece, and hands it to the system."""
        start = self._write(number, data, key)
        self._steps += 1
        return Place(self, start, len(data), key)

    def news(self) -> Iterator[tuple[int, Place]]:
        """Yields what was written since it was last asked, up to what is damaged or not whole."""
        size = self._file.seek(0, 2)
        while self._end + _HEAD.size <= size:
            self._file.seek(self._end)
            head = self._file.read(_HEAD.size)
            number, key, length, _ = _HEAD.unpack(head)
            start = self._end + _HEAD.size
            data = self._file.read(length) if start + length <= size else None
            if data is None or _head(number, key.hex(), data) != head:
                return
            self._end = start + length
            if number == _ABOUT:
                self.about = json.loads(data)
            else:
                self._steps += 1
                yield number, Place(self, start, length, key.hex())

    def __len__(self) -> int:
        """How many steps were written or read so far."""
        return self._steps

    @property
    def is_closed(self) -> bool:
        """Whether the file was closed."""
        return self._file.closed

    def whole(self) -> bytes:
        """All that the file holds."""
        return self.read(0, self._end)

    def read(self, start: int, length: int) -> bytes:
        """Reads a part of the file."""
        self._file.seek(start)
        return self._file.read(length)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, number: int, data: bytes, key: str = "") -> int:
        """Writes a record, and returns where its bytes begin."""
        self._file.seek(self._end)
        self._file.write(_head(number, key, data) + data)
        self._file.flush()
        start = self._end + _HEAD.size
        self._end = start + len(data)
        return start


class Place(NamedTuple):
    """Where a step lies.

    Attributes:
        file: In which file.
        start: Where it begins there.
        length: How many bytes it has.
        key: What is the same for steps of the same batch in the same setting.
    """

    file: StepFile
    start: int
    length: int
    key: str

    def read(self) -> bytes:
        """The bytes of the step."""
        return self.file.read(self.start, self.length)


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
            if self._is_new(number, place.read()):
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


def _head(number: int, key: str, data: bytes) -> bytes:
    raw = bytes.fromhex(key).ljust(16, b"\0")
    checksum = zlib.crc32(_HEAD.pack(number, raw, len(data), 0) + data)
    return _HEAD.pack(number, raw, len(data), checksum)
