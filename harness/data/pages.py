"""Pages: documents in a row, cut into numbered windows and batches.

A text that is read whole is a single page, one that is streamed has as many as it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.data.batch import WindowRows
from harness.data.checks import check_vocabulary, padding_id
from harness.data.documents import Document, Join
from harness.data.encoding import bos_id, encode
from harness.data.plan import plan_batches
from harness.data.sources import Reading
from harness.data.token_source import TokenSource
from harness.data.units import Unit, make_units
from harness.data.windows import Layout, Window
from harness.errors import ConfigError
from harness.results import schema


@dataclass(frozen=True)
class Extent:
    """How much all pages are up to one of them.

    Attributes:
        units: Units of resampling.
        batches: Planned batches.
        documents: Documents with a window.
        windows: Windows.
        scored: Tokens that are scored.
        tokens: Tokens, those among them of documents that are too short to score.
        words: Words of documents with a window.
        bytes: Bytes of these, likewise.
    """

    units: int = 0
    batches: int = 0
    documents: int = 0
    windows: int = 0
    scored: int = 0
    tokens: int = 0
    words: int = 0
    bytes: int = 0

    @property
    def is_covered(self) -> bool:
        """Whether every token of every document is scored."""
        return self.scored == self.tokens


@dataclass(frozen=True)
class Page:
    """Documents in a row, ready to be scored.

    Args:
        windows: Their windows.
        rows: The windows as tensors, by planned batch.
        plan: Batches of window numbers, independent of the number of processes.
        first_batch: Number of the first batch.
        extent: How much all pages are up to this one.
        notes: What was left out of the data set up to here, one sentence each.
    """

    windows: list[Window]
    rows: WindowRows
    plan: list[list[int]]
    first_batch: int
    extent: Extent
    notes: tuple[str, ...]


@dataclass
class Cutter:
    """Makes pages of documents; what it numbers it numbers on from page to page.

    Documents that tokenize to nothing are left out; those too short to score keep the text from
    counting as covered.

    Args:
        reading: Where the documents come from, for the record.
        source: The tokenizer, and how many tokens the model has.
        layout: How windows are cut.
        join: What the documents are made by.
        batch_size: Windows per batch.
        dataset: For the record.
    """

    reading: Reading
    source: TokenSource
    layout: Layout
    join: Join
    batch_size: int
    dataset: str | list[str]
    _units: list[Unit] = field(default_factory=list, init=False)
    _seen: dict[bytes, int] = field(default_factory=dict, init=False)
    _extent: Extent = field(default=Extent(), init=False)

    def page(self, documents: Sequence[Document]) -> Page:
        """Tokenizes documents and cuts them into windows.

        Args:
            documents: What follows the page before; a single one where ``join`` is ``corpus``.

        Raises:
            ConfigError: The tokenizer fails, or is that of a larger vocabulary.
        """
        tokenizer, before = self.source.tokenizer, self._extent
        tokens = encode(tokenizer, [document.text for document in documents])
        check_vocabulary((int(ids.max()) for ids in tokens if len(ids)), self.source)
        cut = [self.layout.cut(len(ids), place) for place, ids in enumerate(tokens)]
        windows = [window for part in cut for window in part]
        unit_of, units = make_units(
            documents, cut, tokens, join=self.join, first=before.units, seen=self._seen
        )
        rows = WindowRows(
            tokens, windows, unit_of, bos_id(tokenizer), self.pad_id, first=before.windows
        )
        lengths = [window.length for window in windows]
        plan = plan_batches(lengths, self.batch_size, before.windows)
        used = [document for document, part in zip(documents, cut, strict=True) if part]
        self._units += units
        self._extent = Extent(
            units=len(self._units),
            batches=before.batches + len(plan),
            documents=before.documents + sum(document.rows for document in used),
            windows=before.windows + len(windows),
            scored=before.scored + sum(window.scored for window in windows),
            tokens=before.tokens + sum(len(ids) for ids in tokens),
            words=before.words + sum(document.words for document in used),
            bytes=before.bytes + sum(document.bytes for document in used),
        )
        notes = tuple(self.reading.notes)
        return Page(windows, rows, plan, before.batches, self._extent, notes)

    def check(self) -> None:
        """Refuses a text of which nothing can be scored."""
        if not self._extent.tokens:
            reason = f"no text in it (split {self.reading.split})"
            raise ConfigError("data.dataset", self.dataset, reason)
        if not self._extent.windows:
            short = f"no document is long enough to score ({self._extent.tokens} tokens in all)"
            reason = f"{short}; choose a smaller one"
            raise ConfigError("data.max_length", self.layout.max_length, reason)

    @property
    def pad_id(self) -> int:
        """The id that fills rows up."""
        return padding_id(self.source.tokenizer, self.source.vocabulary)

    def units(self, extent: Extent) -> list[Unit]:
        """Units of resampling; a place in this list is a unit's number everywhere.

        Args:
            extent: How much of the pages is asked for.
        """
        units = self._units[: extent.units]
        if extent.is_covered:
            return units
        return [replace(unit, words=None, bytes=None) for unit in units]

    def record(self, extent: Extent) -> schema.DataRecord:
        """What stands in ``results.json``.

        Args:
            extent: How much of the pages is asked for.
        """
        return schema.DataRecord(
            dataset=self.dataset,
            split=self.reading.split,
            documents=extent.documents,
            windows=extent.windows,
            tokens=extent.scored,
            words=extent.words if extent.is_covered else None,
            bytes=extent.bytes if extent.is_covered else None,
            max_length=self.layout.max_length,
            stride=self.layout.stride,
            join=self.join,
            bos=self.layout.bos,
            windows_kind=self.layout.kind,
            text_column=self.reading.column,
        )
