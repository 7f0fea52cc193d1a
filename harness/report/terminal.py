"""The table at the end of a run."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.tables import header, rows, sentences, title
from harness.results import Results


def show(results: Results, console: Console | None = None) -> None:
    """Prints the table of variants and what is to be said about it.

    Args:
        results: What was measured.
        console: Where to print; the terminal by default.
    """
    console = console or Console()
    data = results.data
    extent = f"{data.tokens:,} tokens in {data.documents:,} documents"
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{title(results)}, {data.split}: {extent}",
        title_style="bold",
        title_justify="left",
        padding=0,
        pad_edge=False,
    )
    for column, name in enumerate(header(results)):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for row in rows(results):
        table.add_row(*(Text(cell) for cell in row.cells), style="dim" if row.control else "")
    # A table that is cut off is worse than one that a narrow terminal wraps.
    whole = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(file=console.file, width=max(whole, console.width)).print(table)
    for sentence in sentences(results):
        console.print(Text(sentence))
