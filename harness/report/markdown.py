"""``report.md``: what a run measured, for people."""

from __future__ import annotations

from harness.report.tables import Table, number, sentences, tables, title
from harness.results import Results

_OF_SCORES = """\
- **entries**: how many weights were edited; a control edits as many, in the same tensors, at \
random.
- **ppl**, perplexity: exp of the mean negative log-likelihood (nll) per scored token.
- **Δnll**: nll of the variant minus that of the original, in nats per token, on the same tokens; \
the interval comes from resampling documents.
- **KL**: mean Kullback-Leibler divergence KL(original || variant) of the next-token \
distributions, in nats.
- **top-1 %**: share of positions at which both prefer the same next token.
- **p**: paired permutation test over documents against no change; in a row of controls, the rank \
of the variant among its controls (from 19 controls on)."""

_OF_TEXTS = """\
- **seq-rep-4**: share of 4-grams that repeat an earlier one of their text, mean over the texts \
written after the prompts; the interval comes from resampling prompts.
- **diversity**: product over n = 2, 3, 4 of the share of n-grams that are new in their text.
- **loops %**: texts that end in a cycle, repeated three times or more over twelve tokens or more.
- **same %**: texts that are the original's, token by token."""

_OF_FLOW = """\
- **max |x|**, **kurtosis**: the largest of any observed module while the {read} read; a Gaussian \
has kurtosis 3.
- **massive**: activations in the residual stream beyond {threshold:g} and beyond {ratio:g} times \
the median of their text."""


def markdown(results: Results) -> str:
    """The report as Markdown text.

    Args:
        results: What was measured.
    """
    run, model = results.run, results.model
    lines = [
        f"# {run.name}, version {run.version}",
        "",
        f"`{run.command}` of **{title(results)}** ({model.class_name}, {model.parameters:,} "
        f"parameters, {model.dtype}){_extent(results)}. {run.duration_seconds:.0f} seconds."
        + (" **Partial**: only a part of the split was scored." if run.partial else ""),
        "",
        *(line for table in tables(results) for line in _table(table)),
        *(f"- {sentence}" for sentence in sentences(results)),
        *_noise_floor(results),
        "",
        "## How to read it",
        "",
        *_legend(results),
        "",
    ]
    return "\n".join(lines)


def _legend(results: Results) -> list[str]:
    """What the columns mean, of those that there are."""
    columns = {column for table in tables(results) for column in table.header}
    legend = [_OF_SCORES] if results.data else []
    if "diversity" in columns:
        legend.append(_OF_TEXTS)
    if (observed := results.observed) and "kurtosis" in columns:
        read = "text was" if results.data else "prompts were"
        threshold, ratio = observed.massive_threshold, observed.massive_ratio
        legend.append(_OF_FLOW.format(read=read, threshold=threshold, ratio=ratio))
    return legend


def _extent(results: Results) -> str:
    data = results.data
    if data is None:
        return ""
    return (
        f": split {data.split}, {data.tokens:,} scored tokens in {data.windows:,} windows of "
        f"{data.documents:,} documents (max_length {data.max_length}, stride {data.stride}, "
        f"join {data.join}, bos {data.bos})"
    )


def _table(table: Table) -> list[str]:
    lines = [_line([cell.strip() for cell in row.cells]) for row in table.rows]
    caption = f"**{table.caption}**"
    return [
        caption,
        "",
        _line(table.header),
        _line(["---", *["---:"] * (len(table.header) - 1)]),
        *lines,
        "",
    ]


def _noise_floor(results: Results) -> list[str]:
    floor = results.noise_floor
    if floor is None:
        return []
    return [
        "- Noise floor, the original scored again on the first eight batches: "
        f"Δnll {number(floor.delta_nll)}, KL {number(floor.kl_mean)}."
    ]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
