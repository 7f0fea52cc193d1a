"""Tables: rows with columns, and which column holds the text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harness.data.contents import unreadable
from harness.errors import ConfigError

TEXT = "text"
CELLS = "cells"
LONE_SURROGATE = "half of a pair of surrogates stands alone in it, which is no character"
_MOST_NAMES = 12


class Table(ABC):
    """Rows with columns, or rows that are texts themselves.

    Args:
        path: The file or folder; the name of a data set of the hub.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return column in self.kinds()

    @abstractmethod
    def kinds(self) -> dict[str, str]:
        """What each column holds, in a word; empty where there are no columns, or no rows."""

    @abstractmethod
    def values(self, column: str | None) -> Iterator[tuple[str, Any]]:
        """Yields where each row stands (``line 3``), and what it has in a column."""

    def shows_text(self, column: str | None, value: Any) -> bool:
        """Whether a value, text or null, tells that its column is one of text."""
        return value is not None


def choose_column(tables: Sequence[Table], wanted: str | None, default: str) -> str | None:
    """Chooses the column that holds the text, one for all tables of a data set.

    It is the one that is wanted; for want of a wish the default one, where any table has it; else
    the only one of text, where none holds lists or mappings that may be the text instead.

    Args:
        tables: The tables.
        wanted: The column of ``data.text_column``.
        default: The column that is taken unless another is named.

    Returns:
        Its name; None where the tables have no columns.

    Raises:
        ConfigError: There is no such column, or it would have to be guessed.
    """
    name = default if wanted is None else wanted
    if any(table.has(name) for table in tables):
        return name
    kinds: dict[str, set[str]] = {}
    for table in tables:
        for column, kind in table.kinds().items():
            kinds.setdefault(column, set()).add(kind)
    there = {column: joined(found) for column, found in kinds.items()}
    if wanted is not None and tables:
        reason = f"no such column; there are {_shown(there)}" if there else "there are no columns"
        raise ConfigError("data.text_column", wanted, reason)
    if not there:
        return None
    # What is text in some rows and something else in others may be the text as well.
    texts = [c for c, kind in there.items() if {TEXT, "list", "mapping"} & set(kind.split(" or "))]
    if len(texts) != 1 or there[texts[0]] != TEXT:
        reason = f"name the column of the text; there are {_shown(there)}"
        if CELLS in there.values():
            reason += "; the first line of a .csv or .tsv file is taken for names, never for text"
        raise ConfigError("data.text_column", None, reason)
    return texts[0]


def texts_of(table: Table, column: str | None, notes: list[str]) -> Iterator[str]:
    """Yields the text of each row, empty for a null: one among a million is no reason to refuse.

    Rows are held back until one shows that the column is text, so that none is taken for it
    which is always null.

    Args:
        table: The rows.
        column: Which column holds the text; None where rows are texts.
        notes: Where it is said, after the last row, how many have none.

    Raises:
        ConfigError: The table lacks the column, a row of it is no text, or every row is null.
    """
    if column is not None and not table.has(column) and (there := table.kinds()):
        raise unreadable(table.path, f"has no column {column}; there are {_shown(there)}")
    unsure: list[str] | None = []
    nulls, first_null = 0, ""
    for place, value in table.values(column):
        if value is None:
            nulls, first_null = nulls + 1, first_null or place
        text = "" if value is None else _checked(table, column, place, value)
        if unsure is None:
            yield text
            continue
        unsure.append(text)
        if table.shows_text(column, value):
            yield from unsure
            unsure = None
    if unsure:
        holds = "numbers" if any(unsure) else "nulls"
        raise unreadable(table.path, f"its column {column} holds nothing but {holds}")
    if nulls:
        rows = f"{nulls:,} row{'s' * (nulls > 1)} of {table.path.name}"
        notes.append(f"{rows} without {column or 'text'}, {first_null} the first, count as empty")


def _checked(table: Table, column: str | None, place: str, value: object) -> str:
    if not isinstance(value, str):
        what = f"{place}: its {column} is no text but a {kind_of(value)}"
        raise unreadable(table.path, f"{what}; mend the row, or name another column")
    if has_lone_surrogate(value):
        raise unreadable(table.path, f"{place}: {LONE_SURROGATE}")
    return value


def has_lone_surrogate(text: str) -> bool:
    """Whether there is something in a text that UTF-8 has no bytes for, nor any tokenizer an id."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _shown(kinds: Mapping[str, str]) -> str:
    """Names and kinds of columns, however many and long and whatever is in them."""
    shown = [f"{_name(name)} ({kind})" for name, kind in islice(kinds.items(), _MOST_NAMES)]
    more = len(kinds) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _name(name: str) -> str:
    short = name if len(name) <= 40 else f"{name[:40]}…"
    return short if short.isprintable() and short.strip() == short else repr(short)


def kind_of(value: Any) -> str:
    """What a value is, in a word."""
    kinds = ((str, TEXT), ((bool, int, float), "number"), (list, "list"), (dict, "mapping"))
    names = (name for types, name in kinds if isinstance(value, types))
    return "null" if value is None else next(names, type(value).__name__)


def joined(kinds: set[str]) -> str:
    """What a column holds whose rows are of these kinds; null is of any."""
    return " or ".join(sorted(kinds - {"null"})) or "null"
