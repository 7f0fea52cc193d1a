"""What a run found, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import rich.table
from rich import box
from rich.console import Console
from rich.text import Text

from harness.base.console import visible
from harness.report.sentences import headlines, remarks
from harness.report.tables import Table, tables
from harness.results.schema import Results
from harness.results.titles import caption


def show(results: Results, console: Console | None = None) -> None:
    """Prints what was found in a sentence for each variant, the tables, and what is to be known.

    Args:
        results: What was measured.
        console: Where to print; the terminal by default.
    """
    console = console or Console()
    console.print(_text(caption(results), style="bold"))
    for sentence in headlines(results):
        console.print(_text(f"\n{sentence}"))
    console.print()
    for table in tables(results):
        console.print(_text(table.caption, style="bold"))
        for part in _fitting(table, console):
            console.print(part)
    for remark in remarks(results):
        console.print(_text(f"- {remark}"))
    console.print()


def _text(words: str, style: str = "") -> Text:
    """Words as they are: what a model or a file is called neither marks up nor acts on anything."""
    return Text(visible(words), style=style)


def _fitting(table: Table, console: Console) -> Iterator[rich.table.Table]:
    """The table, in parts that each begin with the names where it is too wide as a whole."""
    unlimited = console.options.update(max_width=10_000)
    left = list(range(1, len(table.header)))
    while left:
        for taken in range(len(left), 0, -1):
            drawn = _drawn(table, left[:taken])
            if console.measure(drawn, options=unlimited).maximum <= console.width:
                break
        yield drawn
        left = left[taken:]


def _drawn(table: Table, columns: Sequence[int]) -> rich.table.Table:
    drawn = rich.table.Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for column in (0, *columns):
        name, words = _text(table.header[column]), table.is_text(column)
        drawn.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in table.rows:
        cells = (_text(row.cells[column]) for column in (0, *columns))
        drawn.add_row(*cells, style="dim" if row.control else "")
    return drawn
