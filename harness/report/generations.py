"""What the models wrote: ``generations.jsonl``, side by side on the terminal and in TensorBoard."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.base.console import visible
from harness.base.files import write_text

Row = Mapping[str, Any]
"""A row of ``generations.jsonl``, as ``harness.evaluation.texts.text_rows`` makes it."""

MARK = "▶"
"""Stands where a text departs from the original's."""

_NARROWEST = 24


def save_generations(path: Path, rows: Iterable[Row]) -> None:
    """Writes one line of JSON per prompt and variant.

    Args:
        path: The file.
        rows: What was written.
    """
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, "".join(lines))


def show_side_by_side(rows: Sequence[Row], console: Console | None = None, most: int = 2) -> None:
    """Prints what original and variants made of some prompts, each departure marked.

    Those prompts are shown first whose texts depart at all; as many variants as find room,
    and the others by name.

    Args:
        rows: What was written.
        console: Where to print; the terminal by default.
        most: How many prompts.
    """
    console = console or Console()
    prompts = _telling(rows)
    departing = {
        row["variant"]
        for texts in prompts
        for row in texts
        if row["broken"] or _departs(row, texts[0])
    }
    writing = {row["variant"] for row in rows if not row["broken"]}
    room = max(2, console.width // _NARROWEST)
    left_out: list[str] = []
    for original, *others in prompts[:most]:
        # Those that wrote nothing, and then those that are the original, where there is room.
        others.sort(
            key=lambda row: (row["variant"] not in departing, row["variant"] not in writing)
        )
        table = Table(
            box=box.SIMPLE_HEAD,
            title=Text(f"“{visible(original['prompt'])}”", style="bold"),
            title_justify="left",
            padding=(0, 1, 0, 0),
            pad_edge=False,
            expand=True,
        )
        for row in [original, *others][:room]:
            table.add_column(row["variant"], ratio=1, overflow="fold")
        table.add_row(*(_marked(row, original) for row in [original, *others][:room]))
        console.print(table)
        left_out = [row["variant"] for row in others[room - 1 :]]
    if left_out:
        console.print(f"{', '.join(left_out)}: in generations.jsonl, for want of room here")


def html_table(rows: Sequence[Row], most: int = 20) -> str:
    """The same as a table of HTML, as TensorBoard's text page shows it.

    Args:
        rows: What was written.
        most: How many prompts.
    """
    names = list(dict.fromkeys(row["variant"] for row in rows))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["prompt", *names])
    body = ""
    for texts in _telling(rows)[:most]:
        cells = [_escaped(texts[0]["prompt"]), *(_html(row, texts[0]) for row in texts)]
        body += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _telling(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by prompt, of the prompts whose texts differ before those whose texts do not."""
    prompts = [list(group) for _, group in groupby(rows, key=lambda row: row["prompt_number"])]
    return sorted(prompts, key=lambda texts: not any(_departs(row, texts[0]) for row in texts))


def _departs(row: Row, original: Row) -> bool:
    return row["diverges_at"] is not None or row["broken"] != original["broken"]


def _parts(row: Row) -> Iterator[tuple[str, bool]]:
    """The text up to where it departs from the original's, and from there on."""
    place = row["diverges_at_character"]
    yield row["text"][:place], False
    if place is not None:
        yield row["text"][place:], True


def _note(row: Row, original: Row) -> str | None:
    """What stands in place of a text that is none, or one that stands beside."""
    if row["broken"]:
        return "(nothing: its logits are not finite)"
    return None if row is original or _departs(row, original) else "(the original's text)"


def _marked(row: Row, original: Row) -> Text:
    if note := _note(row, original):
        return Text(note, style="italic")
    text = Text()
    for part, departed in _parts(row):
        text.append(MARK if departed else "", style="bold yellow")
        text.append(visible(part), style="yellow" if departed else "")
    return text


def _html(row: Row, original: Row) -> str:
    if note := _note(row, original):
        return note
    return "".join(
        f"<strong>{MARK}{_escaped(part)}</strong>" if departed else _escaped(part)
        for part, departed in _parts(row)
    )


def _escaped(text: str) -> str:
    shown = html.escape(visible(text))
    # Of several spaces, and of one that begins a line, a browser would leave out some.
    return re.sub(r"(?m)^ | (?= )", "&nbsp;", shown).replace("\n", "<br>")
