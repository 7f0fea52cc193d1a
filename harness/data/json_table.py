"""JSON and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness.data.contents import read_lines, read_text, unreadable
from harness.data.files import file_format
from harness.data.tables import Table, joined, kind_of

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
        if file_format(self.path) == "json" and not self._has_lines():
            text = read_text(self.path)
            value = self._load(text) if text.strip(_BLANK) else []
            items = value if isinstance(value, list) else [value]
            rows = ((f"item {number}", item) for number, item in enumerate(items, start=1))
        for place, row in rows:
            if not isinstance(row, dict | str):
                told = f"{place} is a {kind_of(row)}, neither an object nor a text"
                raise unreadable(self.path, told)
            yield place, row

    def _has_lines(self) -> bool:
        """Whether the first line is a row of its own: many a ``.json`` holds JSON lines."""
        lines = (line for _, line in read_lines(self.path) if line.strip(_BLANK))
        try:
            return isinstance(json.loads(next(lines, "")), dict | str)
        except (ValueError, RecursionError):
            return False

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
