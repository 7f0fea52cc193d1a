"""The tables at the end of a run."""

from __future__ import annotations

import rich.table
from rich import box
from rich.console import Console
from rich.text import Text

from harness.report.tables import Table, sentences, tables
from harness.results import Results


def show(results: Results, console: Console | None = None) -> None:
    """Prints the tables and what is to be said about them.

    Args:
        results: What was measured.
        console: Where to print; the terminal by default.
    """
    console = console or Console()
    for table in tables(results):
        _print(console, table)
    for sentence in sentences(results):
        console.print(Text(sentence))


def _print(console: Console, content: Table) -> None:
    table = rich.table.Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    for column, name in enumerate(content.header):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for line in content.rows:
        table.add_row(*(Text(cell) for cell in line.cells), style="dim" if line.control else "")
    # A table that is cut off is worse than one that a narrow terminal wraps.
    whole = console.measure(table, options=console.options.update(max_width=1000)).maximum
    # As a title it would have to fit over the table.
    console.print(Text(content.caption, style="bold"))
    Console(file=console.file, width=max(whole, console.width)).print(table)
