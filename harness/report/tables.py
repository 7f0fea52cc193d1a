"""The tables that terminal and Markdown both show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.columns import (
    AGAINST_CHANCE,
    EDITS,
    EFFECTS,
    FLOW,
    PER_WORD,
    TEXTS,
    Column,
    further_metrics,
)
from harness.report.numbers import NOTHING
from harness.results.schema import Likelihood, Results, VariantRecord, VersusOriginal


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
        """Whether a column holds words, which stand on the left."""
        cells = [row.cells[column] for row in self.rows]
        return any(cell[:1].isalpha() and "nan" not in cell.lower() for cell in cells)


def tables(results: Results) -> list[Table]:
    """The tables in which there is something to show."""
    variants = [(name, variant, False) for name, variant in results.variants.items()]
    controlled = [line for line in variants if line[1].versus_control]
    scored = list(_with_mean_of_controls(results)) if results.data else []
    looked_at = list(_with_first_controls(results))
    edited = [line for line in variants if line[1].edit]
    found = (
        _table("what was edited", EDITS, edited, results),
        _table("effects", EFFECTS, scored, results),
        _table("beside as many random weights", AGAINST_CHANCE, controlled, results),
        _table("per word and byte", PER_WORD, variants, results),
        _table(_texts(results), TEXTS, looked_at, results),
        _table("activations", FLOW, looked_at, results),
        _table("further metrics of the texts", further_metrics(results), looked_at, results),
    )
    return [table for table in found if table is not None]


def caption(results: Results) -> str:
    """What was measured: the model, the text, and how much of it."""
    about = title(results)
    if data := results.data:
        extent = f"{data.tokens:,} tokens in {_counted(data.documents, 'document')}"
        about = f"{about}, {data.split}: {extent}"
    return f"{about} (partial: not all was measured)" if results.run.partial else about


def title(results: Results) -> str:
    """Which model, and on which text; folders and files by their last name."""
    model = _short(results.model.pretrained)
    if results.data is None:
        return model
    dataset = results.data.dataset
    texts = [dataset] if isinstance(dataset, str) else dataset
    return f"{model} on {', '.join(map(_short, texts))}"


def _short(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name


def _texts(results: Results) -> str:
    counts = [v.generation.prompts for v in results.variants.values() if v.generation]
    return f"texts after {_counted(counts[0], 'prompt')}" if counts else ""


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


Line = tuple[str, VariantRecord, bool]
"""Name, record, and whether it is one of controls."""


def _with_mean_of_controls(results: Results) -> Iterator[Line]:
    for name, variant in results.variants.items():
        yield name, variant, False
        controls = [r for n, r in results.controls.items() if n.startswith(f"{name}-control-")]
        if controls and variant.versus_control is not None:
            yield f"  {_counted(len(controls), 'control')}", _mean_of(controls, variant), True


def _with_first_controls(results: Results) -> Iterator[Line]:
    for name, variant in results.variants.items():
        yield name, variant, False
        control = results.controls.get(f"{name}-control-0")
        if control is not None:
            yield "  control", control, True


def _mean_of(controls: Sequence[VariantRecord], variant: VariantRecord) -> VariantRecord:
    """What the controls have in common, and the mean of what they were measured to be."""
    against = variant.versus_control
    versus = [c.versus_original for c in controls if c.versus_original]
    assert against is not None
    perplexities = [c.likelihood.perplexity if c.likelihood else None for c in controls]
    return VariantRecord(
        likelihood=Likelihood(None, _mean(perplexities), None, None, None),
        edit=controls[0].edit,
        versus_original=VersusOriginal(
            delta_nll=against.delta_nll,
            delta_nll_ci95=against.delta_nll_ci95,
            p_value=None,
            perplexity_ratio=None,
            kl_mean=_mean([v.kl_mean for v in versus]),
            kl_p50=None,
            kl_p99=None,
            kl_max=None,
            top1_agreement=_mean([v.top1_agreement for v in versus]),
        ),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


def _table(
    caption: str, columns: Sequence[Column], lines: Sequence[Line], results: Results
) -> Table | None:
    cells = {column: [column.cell(record) for _, record, _ in lines] for column in columns}
    full = {column for column, texts in cells.items() if set(texts) - {NOTHING}}
    if not full:
        return None
    shown = [column for column in columns if column in full or column.kept]
    level = f"{100 * results.run.confidence:.4g} %"
    named = {column: column.name.replace("{level}", level) for column in shown}
    return Table(
        caption,
        ("variant", *named.values()),
        tuple(
            Row((name, *(cells[column][place] for column in shown)), control)
            for place, (name, _, control) in enumerate(lines)
        ),
        {named[column]: column.meaning.format(**_settings(results)) for column in shown},
    )


def _settings(results: Results) -> dict[str, object]:
    """What the meaning of a column depends on."""
    observed = results.observed
    return {
        "read": "text was" if results.data else "prompts were",
        "threshold": observed.massive_threshold if observed else math.nan,
        "ratio": observed.massive_ratio if observed else math.nan,
    }
