"""A text made ready: its windows, units of resampling, batch plan and record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.data.batch import WindowRows
from harness.data.documents import Document
from harness.data.pages import Cutter
from harness.data.units import Unit
from harness.data.windows import Window
from harness.results import schema


class ScoredText(Protocol):
    """What results tell of a text; of one that is streamed, as far as it was read."""

    @property
    def units(self) -> list[Unit]:
        """Units of resampling; a place in this list is a unit's number everywhere."""

    @property
    def record(self) -> schema.DataRecord:
        """What stands in ``results.json``."""

    @property
    def notes(self) -> Sequence[str]:
        """What was left out of the data set, one sentence each."""

    @property
    def is_whole(self) -> bool:
        """Whether units and record are of all that was asked for."""

    @property
    def steps(self) -> int:
        """Batches of the plan; of a text that is streamed, those that were dealt so far."""

    @property
    def key(self) -> str:
        """What is the same for equal windows of equal text; of a stream, those of a first page."""

    @property
    def longest(self) -> int:
        """Most ids that the model sees at once."""

    def work(self, batches: int | None) -> float | None:
        """Ids, padding among them, of so many batches from the first on; None: not known yet."""


@dataclass(frozen=True)
class Corpus:
    """One split in memory, ready to be scored or trained on.

    Args:
        windows: The windows; their place in this list is their number everywhere.
        units: Units of resampling; a place in this list is a unit's number everywhere.
        rows: The windows as tensors, by planned batch.
        plan: Batches of window numbers, independent of the number of processes.
        record: What stands in ``results.json``.
        notes: What was left out of the data set, one sentence each.
    """

    windows: list[Window]
    units: list[Unit]
    rows: WindowRows
    plan: list[list[int]]
    record: schema.DataRecord
    notes: Sequence[str] = ()

    @property
    def is_whole(self) -> bool:
        """Always."""
        return True

    @property
    def steps(self) -> int:
        """Batches of the plan."""
        return len(self.plan)

    @property
    def key(self) -> str:
        """What is the same for equal windows of equal text."""
        return self.rows.key

    @property
    def longest(self) -> int:
        """Most ids that the model sees at once."""
        return max(window.length for window in self.windows)

    def size(self, batch: list[int]) -> int:
        """Ids of a batch of the plan, padding among them."""
        return len(batch) * max(self.windows[number].length for number in batch)

    def work(self, batches: int | None) -> float:
        """Ids, padding among them, of so many batches from the first on."""
        return float(sum(self.size(batch) for batch in self.plan[:batches]))


def build_corpus(documents: list[Document], cutter: Cutter) -> Corpus:
    """Tokenizes documents and cuts them into windows.

    Args:
        documents: What is scored; a single one where they are joined.
        cutter: How windows are cut.

    Raises:
        ConfigError: Nothing is left to score, or the tokenizer fails or is that of a larger
            vocabulary.
    """
    page = cutter.page(documents)
    cutter.check()
    units, record = cutter.units(page.extent), cutter.record(page.extent)
    return Corpus(page.windows, units, page.rows, page.plan, record, page.notes)
