"""A text that is read as it is scored: page by page, while the one before is scored.

What a page holds, and with it every number of a window or a batch, follows from the text and the
configuration alone. Each process reads all of it and scores its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, TypeVar

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

T = TypeVar("T")

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
        self._cutter, self._pages = self._read()
        self._page, self.is_whole = self._pages.take()
        self._cutter.check()
        self.key = self._page.rows.key
        self.steps = 0

    @property
    def units(self) -> list[Unit]:
        """Units of resampling of what was dealt; a place in this list is a unit's number."""
        return self._cutter.units(self._page.extent)

    @property
    def record(self) -> schema.DataRecord:
        """What stands in ``results.json`` of what was dealt."""
        return self._cutter.record(self._page.extent)

    @property
    def notes(self) -> Sequence[str]:
        """What was left out of the data set, one sentence each."""
        return self._page.notes

    @property
    def longest(self) -> int:
        """Most ids that the model sees at once, or may see where that is not known yet."""
        if self.is_whole and not self._page.first_batch:
            return max(window.length for window in self._page.windows)
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
        for dealt in deal(islice(self._batches(most), most), rank, world_size):
            if dealt is None:
                yield WindowBatch.sentinel(self._cutter.pad_id)
            else:
                page, batch = dealt
                yield page.rows[batch]

    def _batches(self, most: int | None) -> Iterator[tuple[Page, PlannedBatch]]:
        if self.steps:  # it was scored before
            self._cutter, self._pages = self._read()
            self._page, self.is_whole = self._pages.take()
        self.steps = 0
        while True:
            if most is None or most > self.steps + len(self._page.plan):
                self._pages.begin()
            for batch in enumerate(self._page.plan, self._page.first_batch):
                self.steps += 1
                yield self._page, batch
            if self.is_whole:
                return
            self._page, self.is_whole = self._pages.take()

    def _read(self) -> tuple[Cutter, _Ahead[tuple[Page, bool]]]:
        cutter, documents = self._begin()
        return cutter, _Ahead(_pages(cutter, documents))


def _pages(cutter: Cutter, documents: Iterator[Document]) -> Iterator[tuple[Page, bool]]:
    """Yields the pages that have windows, and the last one, each with whether it is the last."""
    ahead = list(islice(documents, 1))
    is_last = False
    while not is_last:
        some = take_page(chain(ahead, documents))
        # Read ahead, so that the last page is known to be the last.
        ahead = list(islice(documents, 1))
        is_last = not ahead
        page = cutter.page(some)
        del some
        if page.plan or is_last:
            yield page, is_last


class _Ahead(Generic[T]):
    """Items, the next of which can be made in a thread while another is used.

    Args:
        items: What makes them.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._thread = ThreadPoolExecutor(1)
        self._next: Future[T] | None = None

    def begin(self) -> None:
        """Begins to make the next one, if there is one."""
        self._next = self._thread.submit(next, self._items)

    def take(self) -> T:
        """The next one."""
        coming, self._next = self._next, None
        return next(self._items) if coming is None else coming.result()


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
