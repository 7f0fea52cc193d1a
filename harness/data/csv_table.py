"""Comma- and tab-separated files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Any

from harness.data.contents import read_lines, unreadable
from harness.data.files import file_format
from harness.data.tables import CELLS, Table


class CsvTable(Table):
    """Comma- or tab-separated cells, in quotes where they hold such a mark or a line's end.

    Cells have no type and the first line no mark that it is one of names. So nothing is guessed
    here: a column is one that is called by its name.
    """

    def kinds(self) -> dict[str, str]:
        """The names in the first line."""
        return dict.fromkeys(self._header(self._rows()), CELLS)

    def values(self, column: str | None) -> Iterator[tuple[str, Any]]:
        """Yields the cell of each row; every row has as many as the first line."""
        rows = self._rows()
        header = self._header(rows)
        if column not in header:
            return
        if header.count(column) > 1:
            raise unreadable(self.path, f"its first line names {column!r} twice")
        index = header.index(column)
        for place, row in rows:
            if len(row) != len(header):
                told = f"{place} has {len(row)} cells, the first line names {len(header)} columns"
                raise unreadable(self.path, f"{told}; put text that holds the separator in quotes")
            yield place, row[index]

    def shows_text(self, column: str | None, value: Any) -> bool:
        """Whether it is no number: a column of nothing else is none of text."""
        try:
            float(value or 0)
        except ValueError:
            return True
        return False

    def _header(self, rows: Iterator[tuple[str, list[str]]]) -> list[str]:
        return [name.strip() for name in next(rows, ("", []))[1]]

    def _rows(self) -> Iterator[tuple[str, list[str]]]:
        csv.field_size_limit(sys.maxsize)
        lines = (line for _, line in read_lines(self.path))
        mark = "\t" if file_format(self.path) == "tsv" else ","
        reader = csv.reader(lines, delimiter=mark, strict=True)
        line = 1
        try:
            for row in reader:
                if row:
                    yield f"line {line}", row
                line = reader.line_num + 1
        except csv.Error as error:
            raise unreadable(self.path, f"line {line}: {error}") from None
