"""A text that is read as it is scored: page by page, of which one is in memory.

What a page holds, and with it every number of a window or a batch, follows from the text and the
configuration alone. Each process reads all of it and scores its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from torch.utils.data import IterableDataset

from harness.data.batch import WindowBatch
from harness.data.documents import Document
from harness.data.pages import Cutter, Page
from harness.data.plan import PlannedBatch, deal
from harness.data.units import Unit
from harness.results import schema

PAGE_DOCUMENTS = 4096
"""Most documents of a page."""
PAGE_CHARACTERS = 2**24
"""Characters after which a page ends: the document that reaches them is its last."""

Begin = Callable[[], tuple[Cutter, Iterator[Document]]]
"""Opens a text at its beginning."""


class StreamedCorpus:
    """One split, ready to be scored, however large it is.

    Its first page is read at once, so that what is wrong with it is known before a model is loaded.

    Args:
        begin: Opens the text; called again where it is scored again.

    Attributes:
        key: What is the same for equal windows of equal text, as far as the first page goes.
        is_whole: Whether all that was asked for has been read.
        steps: Batches that were dealt to all processes so far.

    Raises:
        ConfigError: Nothing is there to score, or it cannot be read.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._pages = self._read()
        self._first = next(self._pages, None)
        self._cutter.check()
        self.key = "" if self._first is None else self._first.rows.key

    @property
    def units(self) -> list[Unit]:
        """Units of resampling of what was read; a place in this list is a unit's number."""
        return self._cutter.units

    @property
    def record(self) -> schema.DataRecord:
        """What stands in ``results.json`` of what was read."""
        return self._cutter.record

    @property
    def notes(self) -> Sequence[str]:
        """What was left out of the data set, one sentence each."""
        return self._cutter.reading.notes

    @property
    def longest(self) -> int:
        """Most ids that the model sees at once, or may see where that is not known yet."""
        if self.is_whole and self._first is not None:
            return max(window.length for window in self._first.windows)
        return self._cutter.layout.max_length

    def work(self, batches: int | None) -> None:
        """Nobody knows beforehand how much there is to do."""

    def deal(self, rank: int, world_size: int, most: int | None = None) -> Iterator[WindowBatch]:
        """Yields the batches of one process, from the first page on.

        Args:
            rank: Which process this is.
            world_size: How many there are.
            most: Most batches of all processes together; None: all.
        """
        for dealt in deal(islice(self._batches(), most), rank, world_size):
            if dealt is None:
                yield WindowBatch.sentinel(self._cutter.pad_id)
            else:
                page, batch = dealt
                yield page.rows[batch]

    def _batches(self) -> Iterator[tuple[Page, PlannedBatch]]:
        self.steps = 0
        for page in self._all_pages():
            for batch in enumerate(page.plan, page.first_batch):
                self.steps += 1
                yield page, batch

    def _all_pages(self) -> Iterator[Page]:
        if self._first is None:  # it was scored before
            self._pages = self._read()
        else:
            first, self._first = self._first, None
            yield first
            del first
        yield from self._pages

    def _read(self) -> Iterator[Page]:
        """Reads and cuts the text; pages without windows are counted, and passed over."""
        self.steps, self.is_whole = 0, False
        self._cutter, documents = self._begin()
        ahead = next(documents, None)
        while ahead is not None:
            some = take_page(chain([ahead], documents))
            # Read ahead, so that the last page is known to be the last.
            ahead = next(documents, None)
            self.is_whole = ahead is None
            page = self._cutter.page(some)
            del some
            if page.plan:
                yield page
        self.is_whole = True


def take_page(documents: Iterator[Document]) -> list[Document]:
    """Takes as many documents as make a page; none where there are none left."""
    page, characters = list[Document](), 0
    while len(page) < PAGE_DOCUMENTS and characters < PAGE_CHARACTERS:
        document = next(documents, None)
        if document is None:
            break
        page.append(document)
        characters += len(document.text)
    return page


@dataclass(eq=False)
class StreamRows(IterableDataset[WindowBatch]):
    """The batches of one process, as a data set.

    Args:
        corpus: The text.
        rank: Which process this is.
        world_size: How many there are.
        most: Most batches of all processes together; None: all.
    """

    corpus: StreamedCorpus
    rank: int
    world_size: int
    most: int | None = None

    def __iter__(self) -> Iterator[WindowBatch]:
        """Begins at the first page."""
        return self.corpus.deal(self.rank, self.world_size, self.most)
