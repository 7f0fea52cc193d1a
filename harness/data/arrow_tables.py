"""Tables whose columns have declared types: Parquet, and what ``datasets`` holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.contents import unpacked, unreadable
from harness.data.tables import TEXT, Table

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import DataType, RecordBatch, Schema
    from pyarrow.parquet import ParquetFile

_ROWS_AT_ONCE = 1000


class ArrowTable(Table):
    """Columns with declared types."""

    @cached_property
    def _kinds(self) -> dict[str, str]:
        schema = self._schema()
        return {field.name: _kind_of_type(field.type) for field in schema}

    def kinds(self) -> dict[str, str]:
        """What the schema says."""
        return self._kinds

    def values(self, column: str | None) -> Iterator[tuple[str, Any]]:
        """Yields the value of each row, None for null."""
        number = 0
        for batch in self._batches(column) if column in self._kinds else ():
            for scalar in batch.column(0):
                number += 1
                try:
                    yield f"row {number}", scalar.as_py()
                except UnicodeDecodeError:
                    told = f"row {number}: its {column} is not UTF-8"
                    raise unreadable(self.path, told) from None

    def shows_text(self, column: str | None, value: Any) -> bool:
        """Whether the schema says so, be every value null."""
        return self._kinds.get(column or "") == TEXT or value is not None

    @abstractmethod
    def _schema(self) -> Schema: ...

    @abstractmethod
    def _batches(self, column: str | None) -> Iterable[RecordBatch]: ...


class ParquetTable(ArrowTable):
    """A Parquet file."""

    def _schema(self) -> Schema:
        with self._opened() as file:
            return file.schema_arrow

    def _batches(self, column: str | None) -> Iterable[RecordBatch]:
        with self._opened() as file:
            yield from file.iter_batches(_ROWS_AT_ONCE, columns=[column])

    @contextmanager
    def _opened(self) -> Iterator[ParquetFile]:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        with unpacked(self.path) as stream:
            try:
                yield ParquetFile(stream)
            except ArrowException as error:
                raise unreadable(self.path, f"cannot be read: {_first_line(error)}") from error


class DatasetTable(ArrowTable):
    """One split of a data set of ``datasets``.

    Args:
        path: What it is called.
        dataset: The split.
    """

    def __init__(self, path: Path, dataset: Dataset) -> None:
        super().__init__(path)
        self._dataset = dataset

    def _schema(self) -> Schema:
        return self._dataset.features.arrow_schema

    def _batches(self, column: str | None) -> Iterable[RecordBatch]:
        columns = self._dataset.select_columns(column).with_format("arrow")
        yield from columns.iter(_ROWS_AT_ONCE)


def saved_table(folder: Path) -> DatasetTable:
    """Opens one split that ``save_to_disk`` of ``datasets`` wrote, where it lies.

    Raises:
        ConfigError: The folder is damaged.
    """
    from datasets import load_from_disk

    try:
        return DatasetTable(folder, load_from_disk(str(folder.absolute())))
    except Exception as error:  # what a damaged folder makes of ``datasets`` is not foreseeable
        raise unreadable(folder, f"cannot be read: {_first_line(error)}") from error


def _kind_of_type(kind: DataType) -> str:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return TEXT
    if types.is_primitive(kind) and not types.is_temporal(kind):
        return "number"
    if types.is_struct(kind) or types.is_map(kind):
        return "mapping"
    return "list" if types.is_nested(kind) else str(kind)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
