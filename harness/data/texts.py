"""The text of each command: which split it reads, and how that is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from harness.data.checks import check_choice, check_whole
from harness.data.corpus import Corpus, build_corpus
from harness.data.documents import Detokenizer, Document, Join, make_documents, read_documents
from harness.data.encoding import resolve_bos
from harness.data.pages import Cutter
from harness.data.sources import Reading, TextSource
from harness.data.stream import StreamedCorpus, take_page
from harness.data.token_source import TokenSource
from harness.data.windows import BosPolicy, Kind, Layout, check_lengths, choose_layout
from harness.errors import ConfigError


@dataclass
class Texts:
    """Reads and cuts the text of any command; arguments are those of the data module.

    Args:
        source: The model's side.
        text: The data set, streamed or not.
        splits: The split of each command.
        max_length: Most ids of a window.
        stride: Tokens from one window to the next.
        join: Whether documents are scored by themselves.
        windows: The kind of window.
        bos: Where a BOS stands.
        detokenizer: What the text goes through.
        batch_size: Windows per batch.
        max_documents: Most documents to read.
        say: Tells the user what was left out.

    Raises:
        ConfigError: A value that is out of range.
    """

    source: TokenSource
    text: TextSource
    splits: Mapping[str, str]
    max_length: int | None
    stride: int | None
    join: Join
    windows: Kind
    bos: BosPolicy
    detokenizer: Detokenizer
    batch_size: int
    max_documents: int | None
    say: Callable[[str], None]
    _read: dict[tuple[str, Join], tuple[list[Document], Reading]] = field(
        default_factory=dict, init=False
    )

    def __post_init__(self) -> None:
        check_choice("join", self.join, get_args(Join))
        check_choice("windows", self.windows, get_args(Kind))
        check_choice("bos", self.bos, get_args(BosPolicy))
        check_choice("detokenizer", self.detokenizer, get_args(Detokenizer))
        check_whole(2, max_length=self.max_length)
        check_whole(1, stride=self.stride, batch_size=self.batch_size)
        check_whole(1, max_documents=self.max_documents)
        check_lengths(self.windows, self.max_length, self.stride)
        if self.text.streaming and self.join == "corpus":
            reason = "joins all of the text, which data.streaming does not hold; choose document"
            raise ConfigError("data.join", self.join, reason)

    def asked(self, command: str) -> list[object]:
        """What was asked for of a command's text, as far as it decides what is scored."""
        layout = (self.max_length, self.stride, self.join, self.windows, self.bos, self.detokenizer)
        return [vars(self.text), self.splits[command], *layout, self.max_documents]

    def reading(self, command: str) -> Reading:
        """Opens the split of a command; a hub data set is downloaded unless it is streamed."""
        try:
            return self.text.read(self.splits[command])
        except ConfigError as error:
            if error.key != "data.splits":
                raise
            raise ConfigError(f"data.splits.{command}", error.value, error.reason) from error

    def documents(self, command: str) -> list[Document]:
        """The documents of a command; of a text that is streamed those of its first page."""
        if self.text.streaming:
            return take_page(self._open(command)[0])
        return self._whole(command, "document")[0]

    def corpus(self, command: str) -> Corpus | StreamedCorpus:
        """The text of a command, cut into windows and batches: for ``fit`` into chunks of all."""
        layout = self._layout()
        join = self.join
        if command == "fit":
            layout = replace(layout, kind="chunks", stride=layout.max_length)
            join = "corpus"

        def cutter(reading: Reading) -> Cutter:
            return Cutter(reading, self.source, layout, join, self.batch_size, self.text.dataset)

        def begin() -> tuple[Cutter, Iterator[Document]]:
            documents, reading = self._open(command)
            return cutter(reading), documents

        if self.text.streaming:
            return StreamedCorpus(begin)
        documents, reading = self._whole(command, join)
        return build_corpus(documents, cutter(reading))

    def forget(self) -> None:
        """Gives back the memory of texts that were read whole."""
        self._read.clear()

    def _layout(self) -> Layout:
        bos = resolve_bos(self.bos, self.source)
        positions = self.source.max_positions
        return choose_layout(self.windows, self.max_length, self.stride, bos, positions)

    def _open(self, command: str) -> tuple[Iterator[Document], Reading]:
        reading = self.reading(command)
        for line in reading.notes:
            self.say(line)
        how, limit = self.detokenizer, self.max_documents
        return read_documents(reading.rows, detokenizer=how, limit=limit), reading

    def _whole(self, command: str, join: Join) -> tuple[list[Document], Reading]:
        if (command, join) not in self._read:
            reading = self.reading(command)
            how, limit = self.detokenizer, self.max_documents
            documents = make_documents(reading.rows, join=join, detokenizer=how, limit=limit)
            for line in reading.notes:
                self.say(line)
            self._read[command, join] = documents, reading
        return self._read[command, join]
