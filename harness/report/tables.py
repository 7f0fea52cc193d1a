"""The tables that terminal and Markdown both show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from harness.results import figures
from harness.results.figures import Figure
from harness.results.numbers import NOTHING, counted
from harness.results.schema import Likelihood, Results, VariantRecord, VersusControl, VersusOriginal

Record = TypeVar("Record", Likelihood, VersusOriginal)


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        cells: Text of each column, the variant's name first.
        control: Whether the line is about random controls.
    """

    cells: tuple[str, ...]
    control: bool = False


@dataclass(frozen=True)
class Table:
    """A table of what was measured.

    Attributes:
        caption: What it is about.
        header: Names of the columns, that of the variant's name first.
        rows: Its lines.
        legend: What each further column means, by its name.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    legend: dict[str, str]

    def is_text(self, column: int) -> bool:
        """Whether a column holds words, which stand on the left; the first holds names."""
        cells = [row.cells[column] for row in self.rows]
        found = any(cell[:1].isalpha() and "nan" not in cell.lower() for cell in cells)
        return column == 0 or found


def tables(results: Results) -> list[Table]:
    """The tables in which there is something to show."""
    variants = [(name, variant, False) for name, variant in results.variants.items()]
    controlled = [line for line in variants if line[1].versus_control]
    scored = list(_with_controls(results, mean=True)) if results.data else []
    looked_at = list(_with_controls(results, mean=False))
    edited = [line for line in variants if line[1].edit]
    found = (
        _table("what was edited", figures.EDITS, edited, results),
        _table("effects", figures.EFFECTS, scored, results),
        _table("beside as many random weights", figures.AGAINST_CHANCE, controlled, results),
        _table("per word and byte", figures.PER_WORD, variants, results),
        _table(_texts(results), figures.TEXTS, looked_at, results),
        _table("activations", figures.FLOW, looked_at, results),
        _table(
            "further metrics of the texts", figures.further_metrics(results), looked_at, results
        ),
    )
    return [table for table in found if table is not None]


def _texts(results: Results) -> str:
    counts = [v.generation.prompts for v in results.variants.values() if v.generation]
    return f"texts after {counted(counts[0], 'prompt')}" if counts else ""


Line = tuple[str, VariantRecord, bool]
"""Name, record, and whether it is one of controls."""


def _with_controls(results: Results, *, mean: bool) -> Iterator[Line]:
    """Each variant, and after it the mean of its controls or the first of them."""
    for name, variant in results.variants.items():
        yield name, variant, False
        controls = [r for n, r in results.controls.items() if n.startswith(f"{name}-control-")]
        if controls and not mean:
            yield "  control", controls[0], True
        elif controls and (against := variant.versus_control):
            yield f"  {counted(len(controls), 'control')}", _mean_of(controls, against), True


def _mean_of(controls: Sequence[VariantRecord], against: VersusControl) -> VariantRecord:
    """The mean of what controls were measured to be, with the interval of their mean change."""
    versus = _mean([c.versus_original for c in controls if c.versus_original])
    return VariantRecord(
        likelihood=_mean([c.likelihood for c in controls if c.likelihood]),
        versus_original=replace(
            versus,
            delta_nll=against.delta_nll,
            delta_nll_ci95=against.delta_nll_ci95,
            p_value=None,
        ),
    )


def _mean(records: Sequence[Record]) -> Record:
    """A record of the mean of each figure; None of one that not all of the records have."""
    columns = {f.name: [getattr(r, f.name) for r in records] for f in fields(records[0])}
    means = {
        name: sum(column) / len(column) if all(isinstance(x, float) for x in column) else None
        for name, column in columns.items()
    }
    return replace(records[0], **means)


def _table(
    caption: str, columns: Sequence[Figure], lines: Sequence[Line], results: Results
) -> Table | None:
    cells = {column: [column.cell(record) for _, record, _ in lines] for column in columns}
    full = {column for column, texts in cells.items() if set(texts) - {NOTHING}}
    if not full:
        return None
    level = f"{100 * results.run.confidence:.4g} %"
    shown = {c.name.replace("{level}", level): c for c in columns if c in full or c.kept}
    rows = zip([name for name, _, _ in lines], *(cells[c] for c in shown.values()), strict=True)
    settings = _settings(results)
    return Table(
        caption,
        ("variant", *shown),
        tuple(map(Row, rows, (control for _, _, control in lines))),
        {name: column.meaning.format(**settings) for name, column in shown.items()},
    )


def _settings(results: Results) -> dict[str, object]:
    """What the meaning of a column depends on."""
    observed = results.observed
    return {
        "read": "text was" if results.data else "prompts were",
        "threshold": observed.massive_threshold if observed else math.nan,
        "ratio": observed.massive_ratio if observed else math.nan,
    }
