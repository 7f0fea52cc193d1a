"""Tables in files of text: JSON, JSON lines, comma- and tab-separated cells."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from typing import Any

from harness.data.contents import read_lines, read_text, unreadable
from harness.data.files import file_format
from harness.data.tables import CELLS, Table, joined, kind_of

_BLANK = " \t\r\n"  # what JSON calls blank: other spaces belong to a text


class JsonTable(Table):
    """JSON lines or, in ``.json``, a list: of objects, which may differ in their keys, or texts."""

    def has(self, column: str) -> bool:
        """Whether any row has it; as a rule the first does, and no more are read."""
        return any(column in row for _, row in self._rows() if isinstance(row, dict))

    def kinds(self) -> dict[str, str]:
        """What each column holds over all rows, which are read for it."""
        found: dict[str, set[str]] = {}
        for _, row in self._rows():
            for name, value in row.items() if isinstance(row, dict) else ():
                found.setdefault(name, set()).add(kind_of(value))
        return {name: joined(kinds) for name, kinds in found.items()}

    def values(self, column: str | None) -> Iterator[tuple[str, Any]]:
        """Yields the text or the value of each row, None where it lacks the column."""
        for place, row in self._rows():
            yield place, row.get(column or "") if isinstance(row, dict) else row

    def _rows(self) -> Iterator[tuple[str, dict[str, Any] | str]]:
        lines = ((n, line) for n, line in read_lines(self.path) if line.strip(_BLANK))
        rows = ((f"line {number}", self._load(line, number)) for number, line in lines)
        if self.is_one_value:
            text = read_text(self.path)
            value = self._load(text) if text.strip(_BLANK) else []
            items = value if isinstance(value, list) else [value]
            rows = ((f"item {number}", item) for number, item in enumerate(items, start=1))
        for place, row in rows:
            if not isinstance(row, dict | str):
                told = f"{place} is a {kind_of(row)}, neither an object nor a text"
                raise unreadable(self.path, told)
            yield place, row

    @property
    def is_one_value(self) -> bool:
        """Whether it is no row to a line; the first tells: many a ``.json`` holds JSON lines."""
        if file_format(self.path) != "json":
            return False
        lines = (line for _, line in read_lines(self.path) if line.strip(_BLANK))
        try:
            return not isinstance(json.loads(next(lines, '""')), dict | str)
        except (ValueError, RecursionError):
            return True

    def _load(self, text: str, line: int | None = None) -> Any:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            place = f"line {line or error.lineno}, character {error.colno}"
            told = f"{place}: {error.msg}"
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; [[[[…
            nested = isinstance(error, RecursionError)
            told = f"line {line or 1}: {'nested too deeply' if nested else error}"
        raise unreadable(self.path, f"no JSON: {told}")


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
