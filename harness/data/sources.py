"""Where text comes from: the embedded corpus, local files, the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from harness.data.contents import read_text, unreadable
from harness.data.files import at, file_format, find_files, is_local
from harness.data.tables import Table, choose_column, texts_of
from harness.data.text_tables import CsvTable, JsonTable
from harness.errors import ConfigError

Rows = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Reading:
    """One split, about to be read.

    Args:
        rows: Pairs of name and text, read as they are asked for. A file of text is one pair; a row
            of any other format is one, named by its number from 0; its text is empty for a null.
        split: The split; ``all`` for local files that have none.
        column: The column that is read; None where there are no columns.
        notes: What is left out, one sentence each.
    """

    rows: Rows
    split: str
    column: str | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class TextSource:
    """What names a data set.

    Args:
        dataset: Hub id, ``demo``, or local path(s).
        name: Configuration of a hub data set.
        revision: Branch, tag or commit on the hub.
        text_column: Column that holds the text; None: ``default_column``, or the only column of
            strings.
        default_column: Column that is taken unless another is named.
        streaming: Whether rows are read one after another, without a copy of all of them first.
    """

    dataset: str | list[str]
    name: str | None = None
    revision: str | None = None
    text_column: str | None = None
    default_column: str = "text"
    streaming: bool = False

    def __post_init__(self) -> None:
        if not self.dataset:
            raise ConfigError("data.dataset", self.dataset, "name a hub id, a path, or demo")

    @property
    def from_hub(self) -> bool:
        """Whether the data set is downloaded."""
        return self.dataset != "demo" and not is_local(self.dataset)

    def read(self, split: str) -> Reading:
        """Finds one split, and settles which column is its text.

        Raises:
            ConfigError: There is no such data set, split or column, or it cannot be read as text;
                what is wrong with a row is raised as the row is asked for.
        """
        if self.dataset == "demo":
            from harness.demo.corpus import documents

            return Reading(iter(documents(split)), split)
        # A clone of a hub data set is a folder, of which a configuration can be named.
        folder = isinstance(self.dataset, str) and os.path.isdir(at(self.dataset))
        if self.from_hub or (self.name is not None and folder):
            from harness.data.hub import hub_table

            return self._reading([hub_table(self, split)], split)
        if self.revision is not None or self.name is not None:
            key = "revision" if self.revision is not None else "name"
            reason = f"only a data set of the hub has one; take it out by --data.{key} null"
            raise ConfigError(f"data.{key}", self.revision or self.name, reason)
        found = find_files(self.dataset, split)
        parts = [path if file_format(path) == "txt" else table_of(path) for path in found.files]
        for part in parts if self.streaming else ():
            if isinstance(part, JsonTable) and part.is_one_value:
                reason = (
                    "one JSON value, which data.streaming cannot read row by row; give JSON lines"
                )
                raise unreadable(part.path, reason)
        return self._reading(parts, found.split, found.notes)

    def _reading(
        self, parts: Sequence[Path | Table], split: str, notes: Sequence[str] = ()
    ) -> Reading:
        tables = [part for part in parts if isinstance(part, Table)]
        if self.text_column is not None and not tables:
            reason = "a file of text is one text, without columns; leave it out"
            raise ConfigError("data.text_column", self.text_column, reason)
        column = choose_column(tables, self.text_column, self.default_column)
        said = [*notes]
        return Reading(_rows(parts, column, said), split, column, said)


def _rows(parts: Sequence[Path | Table], column: str | None, notes: list[str]) -> Rows:
    numbers = count()
    for part in parts:
        if isinstance(part, Path):
            yield part.name, read_text(part)
        else:
            for text in texts_of(part, column, notes):
                yield str(next(numbers)), text


def table_of(path: Path) -> Table:
    """Makes the table of a local file with rows, or of a folder of ``save_to_disk``."""
    from harness.data.arrow_tables import parquet_table, saved_table

    match file_format(path):
        case "saved":
            return saved_table(path)
        case "parquet" if path.stat().st_size:
            return parquet_table(path)
        case "csv" | "tsv":
            return CsvTable(path)
    return JsonTable(path)  # and an empty file, which has no rows whatever it is called
