"""Tables whose columns have declared types: Parquet, and what ``datasets`` holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.contents import unpacked, unreadable
from harness.data.tables import TEXT, Table
from harness.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import DataType, RecordBatch, Schema
    from pyarrow.parquet import ParquetFile

_ROWS_AT_ONCE = 1000


class ArrowTable(Table):
    """Columns with declared types.

    Args:
        path: The file or folder; the name of a data set of the hub.
        schema: Reads which columns there are.
        batches: Reads one of them, a batch of rows at a time.
    """

    def __init__(
        self,
        path: Path,
        schema: Callable[[], Schema],
        batches: Callable[[str], Iterator[RecordBatch]],
    ) -> None:
        super().__init__(path)
        self._schema = schema
        self._batches = batches

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {field.name: _kind_of_type(field.type) for field in self._schema()}

    def kinds(self) -> dict[str, str]:
        """What the schema says."""
        return self._kinds

    def values(self, column: str | None) -> Iterator[tuple[str, Any]]:
        """Yields the value of each row, None for null."""
        if column not in self._kinds:
            return
        for number, cell in enumerate(self._cells(column), start=1):
            try:
                yield f"row {number}", cell.as_py()
            except UnicodeDecodeError:
                told = f"row {number}: its {column} is not UTF-8"
                raise unreadable(self.path, told) from None

    def _cells(self, column: str) -> Iterator[Any]:
        rows = 0
        try:
            for batch in self._batches(column):
                yield from batch.column(0)
                rows += batch.num_rows
        except ConfigError as error:
            reason = f"{error.reason} (behind row {rows})" if rows else error.reason
            raise ConfigError(error.key, error.value, reason) from error

    def shows_text(self, column: str | None, value: Any) -> bool:
        """Whether the schema says so, be every value null."""
        return self._kinds.get(column or "") == TEXT or value is not None


def parquet_table(path: Path) -> ArrowTable:
    """Makes a table of a Parquet file."""

    def schema() -> Schema:
        with _parquet(path) as file:
            return file.schema_arrow

    def batches(column: str) -> Iterator[RecordBatch]:
        with _parquet(path) as file:
            yield from file.iter_batches(_ROWS_AT_ONCE, columns=[column])

    return ArrowTable(path, schema, batches)


def dataset_table(path: Path, dataset: Dataset | IterableDataset) -> ArrowTable:
    """Makes a table of one split of a data set of ``datasets``, which is called ``path``."""

    def schema() -> Schema:
        if dataset.features is not None:
            return dataset.features.arrow_schema
        first = next(_rows(path, dataset), None)  # of what is made on the way nothing is declared
        return [] if first is None else first.schema

    def batches(column: str) -> Iterator[RecordBatch]:
        yield from _rows(path, dataset.select_columns(column))

    return ArrowTable(path, schema, batches)


def _rows(path: Path, dataset: Dataset | IterableDataset) -> Iterator[RecordBatch]:
    try:
        yield from dataset.with_format("arrow").iter(_ROWS_AT_ONCE)
    except Exception as error:  # what is read on the way fails as the network and others choose
        raise unreadable(path, f"cannot be read: {_first_line(error)}") from error


def saved_table(folder: Path) -> ArrowTable:
    """Opens one split that ``save_to_disk`` of ``datasets`` wrote, where it lies.

    Raises:
        ConfigError: The folder is damaged.
    """
    from datasets import load_from_disk

    try:
        return dataset_table(folder, load_from_disk(str(folder.absolute())))
    except Exception as error:  # what a damaged folder makes of ``datasets`` is not foreseeable
        raise unreadable(folder, f"cannot be read: {_first_line(error)}") from error


@contextmanager
def _parquet(path: Path) -> Iterator[ParquetFile]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    with unpacked(path) as stream:
        try:
            yield ParquetFile(stream)
        except ArrowException as error:
            raise unreadable(path, f"cannot be read: {_first_line(error)}") from error


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
