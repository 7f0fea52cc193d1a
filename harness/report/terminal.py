"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.tables import Row, header, rows, sentences, text_header, text_rows, title
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
    _print(console, f"{title(results)}, {data.split}: {extent}", header(results), rows(results))
    if looked_at := text_rows(results):
        prompts = max(
            v.generation.prompts if v.generation else 0 for v in results.variants.values()
        )
        _print(
            console,
            f"texts after {prompts} prompts, and activations",
            text_header(results),
            looked_at,
        )
    for sentence in sentences(results):
        console.print(Text(sentence))


def _print(console: Console, caption: str, names: Sequence[str], lines: Sequence[Row]) -> None:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=caption,
        title_style="bold",
        title_justify="left",
        padding=0,
        pad_edge=False,
    )
    for column, name in enumerate(names):
        table.add_column(name, justify="left" if column == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line.cells), style="dim" if line.control else "")
    # A table that is cut off is worse than one that a narrow terminal wraps.
    whole = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(file=console.file, width=max(whole, console.width)).print(table)
