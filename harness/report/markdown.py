"""``report.md``: what a run measured, for people."""

from __future__ import annotations

from collections.abc import Iterator

from harness.report.sentences import headlines, remarks
from harness.report.tables import Table, tables
from harness.results.numbers import number, share
from harness.results.schema import Results
from harness.results.titles import title


def markdown(results: Results) -> str:
    """The report as Markdown text.

    Args:
        results: What was measured.
    """
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Results) -> Iterator[str]:
    run = results.run
    yield f"# {run.name}, version {run.version}"
    yield ""
    for sentence in headlines(results):
        yield f"- {_escaped(sentence)}"
    yield ""
    yield from _made(results)
    yield ""
    found = tables(results)
    for table in found:
        yield from _table(table)
    for remark in remarks(results):
        yield f"- {_escaped(remark)}"
    yield from _floors(results)
    yield ""
    yield "## How to read it"
    yield ""
    for name, meaning in {name: text for t in found for name, text in t.legend.items()}.items():
        yield f"- **{_escaped(name)}**: {meaning}."


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


def _table(table: Table) -> Iterator[str]:
    yield f"**{table.caption}**"
    yield ""
    yield _line(table.header)
    words = [column == 0 or table.is_text(column) for column in range(len(table.header))]
    yield _line(["---" if word else "---:" for word in words])
    for row in table.rows:
        yield _line([cell.strip() for cell in row.cells])
    yield ""


def _floors(results: Results) -> Iterator[str]:
    """What of a difference is arithmetic."""
    floor = results.noise_floor
    if floor is None:
        return
    yield (
        "- Repeatability, the original scored again on the first eight batches: "
        f"Δnll {number(floor.delta_nll)}, KL {number(floor.kl_mean)}."
    )
    if (rounding := floor.rounding) is not None:
        yield (
            f"- Rounding, {rounding.entries:,} weights moved to the next number of their type, on "
            f"the same batches: Δnll {number(rounding.delta_nll)}, KL {number(rounding.kl_mean)}, "
            f"top-1 {share(rounding.top1_agreement)} %."
        )


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(_escaped(cell).replace("|", "\\|") for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Text in which no character makes emphasis."""
    return text.replace("*", "\\*")
