"""``report.md``: what a run measured, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.report.sentences import headlines, remarks
from harness.report.tables import Table, tables
from harness.results.numbers import number, share, shown
from harness.results.schema import Results
from harness.results.titles import title


def markdown(results: Results) -> str:
    """The report as Markdown text.

    Args:
        results: What was measured.
    """
    found = tables(results)
    legend = {name: meaning for table in found for name, meaning in table.legend.items()}
    lines = [
        f"# {results.run.name}, version {results.run.version}",
        "",
        *(f"- {_escaped(sentence)}" for sentence in headlines(results)),
        "",
        *_made(results),
        "",
        *(line for table in found for line in _table(table)),
        *(f"- {_escaped(remark)}" for remark in remarks(results)),
        *_floors(results),
        "",
        "## How to read it",
        "",
        *(f"- **{_escaped(name)}**: {meaning}." for name, meaning in legend.items()),
    ]
    return "\n".join(lines) + "\n"


def _made(results: Results) -> Iterator[str]:
    """What was measured, and how to measure it again."""
    run, model = results.run, results.model
    yield (
        f"`{run.command}` of **{title(results)}** ({model.class_name}, {model.parameters:,} "
        f"parameters, {model.dtype}){_extent(results)}. {run.duration_seconds:.0f} seconds."
        + (" **Partial**: not all of it was measured." if run.partial else "")
    )
    if run.arguments is not None:
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        yield ""
        yield f"`{run.arguments}`  "
        yield f"on {run.started}, with {versions}; `config.yaml` beside this file replays it."


def _extent(results: Results) -> str:
    data = results.data
    if data is None:
        return ""
    column = f"column {data.text_column}, " if data.text_column else ""
    return (
        f": split {data.split}, {column}{data.tokens:,} scored tokens in {data.windows:,} windows "
        f"of {data.documents:,} documents (max_length {data.max_length}, stride {data.stride}, "
        f"join {data.join}, bos {data.bos})"
    )


def _table(table: Table) -> list[str]:
    rules = ["---" if table.is_text(c) else "---:" for c in range(len(table.header))]
    rows = (row.cells for row in table.rows)
    return [f"**{table.caption}**", "", *map(_line, (table.header, rules, *rows)), ""]


def _floors(results: Results) -> Iterator[str]:
    """What of a difference is arithmetic."""
    floor = results.noise_floor
    if floor is None:
        return
    yield (
        "- Repeatability, the original scored again on the first eight batches: "
        f"Δnll {shown(number, floor.delta_nll)}, KL {shown(number, floor.kl_mean)}."
    )
    if moved := floor.rounding:
        yield (
            f"- Rounding, {moved.entries:,} weights moved to the next number of their type, on "
            f"the same batches: Δnll {shown(number, moved.delta_nll)}, KL "
            f"{shown(number, moved.kl_mean)}, top-1 {shown(share, moved.top1_agreement)} %."
        )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell.strip()).replace("|", "\\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Text in which no character makes emphasis."""
    return text.replace("*", "\\*")
