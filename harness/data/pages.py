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
class Page:
    """Documents in a row, ready to be scored.

    Args:
        windows: Their windows.
        rows: The windows as tensors, by planned batch.
        plan: Batches of window numbers, independent of the number of processes.
        first_batch: Number of the first batch.
    """

    windows: list[Window]
    rows: WindowRows
    plan: list[list[int]]
    first_batch: int


@dataclass
class Cutter:
    """Makes pages of documents; what it numbers it numbers on from page to page.

    It knows at any time what all pages so far come to. Documents that tokenize to nothing are left
    out; those too short to score keep the text from counting as covered.

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
    _batches: int = field(default=0, init=False)
    _documents: int = field(default=0, init=False)
    _windows: int = field(default=0, init=False)
    _scored: int = field(default=0, init=False)
    _tokens: int = field(default=0, init=False)
    _words: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)

    def page(self, documents: Sequence[Document]) -> Page:
        """Tokenizes documents and cuts them into windows.

        Args:
            documents: What follows the page before; a single one where ``join`` is ``corpus``.

        Raises:
            ConfigError: The tokenizer fails, or is that of a larger vocabulary.
        """
        tokenizer = self.source.tokenizer
        tokens = encode(tokenizer, [document.text for document in documents])
        check_vocabulary((int(ids.max()) for ids in tokens if len(ids)), self.source)
        cut = [self.layout.cut(len(ids), place) for place, ids in enumerate(tokens)]
        windows = [window for part in cut for window in part]
        unit_of, units = make_units(
            documents, cut, tokens, join=self.join, first=len(self._units), seen=self._seen
        )
        page = Page(
            windows,
            WindowRows(
                tokens,
                windows,
                unit_of,
                bos_id(tokenizer),
                self.pad_id,
                first=self._windows,
            ),
            plan_batches([window.length for window in windows], self.batch_size, self._windows),
            self._batches,
        )
        used = [document for document, part in zip(documents, cut, strict=True) if part]
        self._units += units
        self._batches += len(page.plan)
        self._documents += sum(document.rows for document in used)
        self._windows += len(windows)
        self._scored += sum(window.scored for window in windows)
        self._tokens += sum(len(ids) for ids in tokens)
        self._words += sum(document.words for document in used)
        self._bytes += sum(document.bytes for document in used)
        return page

    def check(self) -> None:
        """Refuses a text of which nothing can be scored."""
        if not self._tokens:
            reason = f"no text in it (split {self.reading.split})"
            raise ConfigError("data.dataset", self.dataset, reason)
        if not self._windows:
            reason = f"no document is long enough to score ({self._tokens} tokens in all)"
            reason += "; choose a smaller one"
            raise ConfigError("data.max_length", self.layout.max_length, reason)

    @property
    def pad_id(self) -> int:
        """The id that fills rows up."""
        return padding_id(self.source.tokenizer, self.source.vocabulary)

    @property
    def units(self) -> list[Unit]:
        """Units of resampling of all pages; a place in this list is a unit's number everywhere."""
        if self._covered:
            return self._units
        return [replace(unit, words=None, bytes=None) for unit in self._units]

    @property
    def record(self) -> schema.DataRecord:
        """What stands in ``results.json`` of all pages."""
        return schema.DataRecord(
            dataset=self.dataset,
            split=self.reading.split,
            documents=self._documents,
            windows=self._windows,
            tokens=self._scored,
            words=self._words if self._covered else None,
            bytes=self._bytes if self._covered else None,
            max_length=self.layout.max_length,
            stride=self.layout.stride,
            join=self.join,
            bos=self.layout.bos,
            windows_kind=self.layout.kind,
            text_column=self.reading.column,
        )

    @property
    def _covered(self) -> bool:
        """Whether every token of every document is scored."""
        return self._scored == self._tokens
