"""Tables: what every format with rows is to those who read it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TEXT = "text"
CELLS = "cells"
NESTED = ("list", "mapping")


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


def kind_of(value: Any) -> str:
    """What a value is, in a word."""
    kinds = ((str, TEXT), ((bool, int, float), "number"), (list, "list"), (dict, "mapping"))
    names = (name for types, name in kinds if isinstance(value, types))
    return "null" if value is None else next(names, type(value).__name__)


def joined(kinds: set[str]) -> str:
    """What a column holds whose rows are of these kinds; null is of any."""
    return " or ".join(sorted(kinds - {"null"})) or "null"
