"""The rows and sentences that terminal and Markdown both show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.results import Results, Variant, VersusControl

NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        cells: Text of each column, in the order of ``header``.
        control: Whether the line is about random controls.
    """

    cells: tuple[str, ...]
    control: bool = False


@dataclass(frozen=True)
class Table:
    """A table of what was measured.

    Attributes:
        caption: What it is about.
        header: Names of the columns.
        rows: Its lines.
    """

    caption: str
    header: tuple[str, ...]
    rows: list[Row]


def tables(results: Results) -> list[Table]:
    """The tables in which there is something to show."""
    about = title(results)
    scored, looked_at = about, _looked_at(results)
    if data := results.data:
        extent = f"{data.tokens:,} tokens in {data.documents:,} documents"
        scored = f"{about}, {data.split}: {extent}"
    else:
        looked_at = f"{about}: {looked_at}"
    found = (
        Table(scored, header(results), rows(results)),
        Table(looked_at, text_header(results), text_rows(results)),
        Table("further metrics of the texts", metric_header(results), metric_rows(results)),
    )
    return [table for table in found if table.rows]


def _looked_at(results: Results) -> str:
    counts = [v.generation.prompts for v in results.variants.values() if v.generation]
    written = f"texts after {counts[0]} prompt{'s' * (counts[0] != 1)}" if counts else ""
    observed = "activations" if _observed(results) else ""
    return ", and ".join(part for part in (written, observed) if part)


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


def header(results: Results) -> tuple[str, ...]:
    """Names of the columns."""
    interval = f"Δnll [{100 * results.run.confidence:.4g} % interval]"
    return ("variant", "entries", "ppl", interval, "KL", "top-1 %", "p")


def rows(results: Results) -> list[Row]:
    """The original, then each variant followed by the mean of its controls; none unscored."""
    table: list[Row] = []
    if results.data is None:
        return table
    for name, variant in results.variants.items():
        table.append(Row((name, *_cells(variant))))
        if variant.versus_control is not None:
            controls = [
                record
                for control, record in results.controls.items()
                if control.startswith(f"{name}-control-")
            ]
            table.append(Row(_control_cells(controls, variant.versus_control), control=True))
    return table


def text_header(results: Results) -> tuple[str, ...]:
    """Names of the columns of the second table: what was written, and what flowed."""
    interval = f"seq-rep-4 [{100 * results.run.confidence:.4g} %]"
    written = (interval, "diversity", "loops %", "same %") if _wrote(results) else ()
    flowed = ("max |x|", "kurtosis", "massive") if _observed(results) else ()
    return ("variant", *written, *flowed)


def text_rows(results: Results) -> list[Row]:
    """The original, then each variant and its first control; none where nothing was looked at."""
    wrote, observed = _wrote(results), _observed(results)
    return [
        Row((name, *(_text_cells(v) if wrote else ()), *(_flow_cells(v) if observed else ())), c)
        for name, v, c in (_with_first_controls(results) if wrote or observed else ())
    ]


def _wrote(results: Results) -> bool:
    return any(variant.generation for variant in results.variants.values())


def _observed(results: Results) -> bool:
    return any(variant.activations for variant in results.variants.values())


def _with_first_controls(results: Results) -> Iterator[tuple[str, Variant, bool]]:
    for name, variant in results.variants.items():
        yield name, variant, False
        control = results.controls.get(f"{name}-control-0")
        if control is not None:
            yield "  control", control, True


def metric_header(results: Results) -> tuple[str, ...]:
    """Names of the columns of the third table: figures of the metrics that the user named."""
    return ("variant", *_metrics(results))


def metric_rows(results: Results) -> list[Row]:
    """The original, then each variant and its first control; none where no metric was named."""
    names = _metrics(results)
    if not names:
        return []
    return [
        Row((label, *(number(record.generation.metrics.get(name)) for name in names)), control)
        for label, record, control in _with_first_controls(results)
        if record.generation is not None
    ]


def _metrics(results: Results) -> tuple[str, ...]:
    written = [variant.generation for variant in results.variants.values() if variant.generation]
    return tuple(dict.fromkeys(name for text in written for name in text.metrics))


def sentences(results: Results) -> list[str]:
    """What the tables say, in words: of variants, of texts that are missing, then the warnings."""
    said = [_verdict(name, variant) for name, variant in results.variants.items() if variant.edit]
    everything = {**results.variants, **results.controls}
    said += [_not_continued(name, variant) for name, variant in everything.items()]
    return [*(sentence for sentence in said if sentence), *results.warnings]


def _not_continued(name: str, variant: Variant) -> str | None:
    text = variant.generation
    if text is None or not text.broken:
        return None
    if text.broken == text.prompts:
        return f"{name}: wrote nothing, as its logits were not finite after any prompt."
    return (
        f"{name}: did not continue {text.broken} of {text.prompts} prompts, after which its logits "
        "were not finite; what is said of its texts is of the others."
    )


def _verdict(name: str, variant: Variant) -> str | None:
    assert variant.edit is not None
    against = variant.versus_control
    change = variant.versus_original
    if variant.edit.is_original or against is None or change is None or change.delta_nll is None:
        return None
    sentence = (
        f"{name}: editing {variant.edit.entries:,} entries changes nll by "
        f"{signed(change.delta_nll)}; as many random entries of the same tensors by "
        f"{signed(against.delta_nll)} (mean of {against.controls})."
    )
    # Of a loss and a gain neither is so many times the other.
    if (against.importance_ratio or 0) > 0 and (against.delta_nll or 0) > 0:
        sentence += f" That is {against.importance_ratio:.3g} times as much."
    return sentence


def _cells(variant: Variant) -> tuple[str, ...]:
    entries = NOTHING if variant.edit is None else f"{variant.edit.entries:,}"
    perplexity = number(_perplexity(variant))
    change = variant.versus_original
    if change is None:
        return (entries, perplexity, NOTHING, NOTHING, NOTHING, NOTHING)
    return (
        entries,
        perplexity,
        signed(change.delta_nll, change.delta_nll_ci95),
        number(change.kl_mean),
        share(change.top1_agreement),
        p_value(change.p_value),
    )


def _control_cells(controls: list[Variant], against: VersusControl) -> tuple[str, ...]:
    versus = [control.versus_original for control in controls if control.versus_original]
    return (
        f"  {against.controls} controls" if against.controls > 1 else "  1 control",
        f"{controls[0].edit.entries:,}" if controls[0].edit else NOTHING,
        number(_mean([_perplexity(control) for control in controls])),
        signed(against.delta_nll, against.delta_nll_ci95),
        number(_mean([change.kl_mean for change in versus])),
        share(_mean([change.top1_agreement for change in versus])),
        p_value(against.p_value),
    )


def _text_cells(variant: Variant) -> tuple[str, ...]:
    text = variant.generation
    if text is None:
        return (NOTHING,) * 4
    bounds = text.ci95.get("seq_rep_4")
    interval = "" if bounds is None else f" [{bounds[0]:.2f}, {bounds[1]:.2f}]"
    repeated = NOTHING if text.seq_rep_4 is None else f"{text.seq_rep_4:.3f}{interval}"
    same = share(text.identical_to_original)
    return (repeated, number(text.diversity), share(text.loop_rate), same)


def _flow_cells(variant: Variant) -> tuple[str, ...]:
    flow = variant.activations
    if flow is None:
        return (NOTHING,) * 3
    massive = NOTHING if flow.massive_count is None else f"{flow.massive_count:,}"
    return (number(flow.max_abs), number(flow.max_kurtosis), massive)


def _perplexity(variant: Variant) -> float | None:
    return variant.likelihood.perplexity if variant.likelihood else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None


def number(value: float | None) -> str:
    """A figure with four digits, or in powers of ten where it is very small or large."""
    if value is None:
        return NOTHING
    return f"{value:,.4g}" if value == 0 or 1e-2 <= abs(value) < 1e6 else f"{value:.1e}"


def signed(value: float | None, bounds: tuple[float, float] | None = None) -> str:
    """A change with its sign, and its interval where there is one."""
    if value is None:
        return NOTHING
    text = f"{value:+.4f}"
    return text if bounds is None else f"{text} [{bounds[0]:+.4f}, {bounds[1]:+.4f}]"


def share(value: float | None) -> str:
    """A share in percent."""
    return NOTHING if value is None else f"{100 * value:.1f}"


def p_value(value: float | None) -> str:
    """A p-value, without digits that mean nothing."""
    if value is None:
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
