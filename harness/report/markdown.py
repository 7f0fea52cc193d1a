"""``report.md``: what a run measured, for people."""

from __future__ import annotations

from harness.report.tables import header, number, rows, sentences, text_header, text_rows, title
from harness.results import Results

_HOW_TO_READ = """\
## How to read it

- **entries**: how many weights were edited; a control edits as many, in the same tensors, at \
random.
- **ppl**, perplexity: exp of the mean negative log-likelihood (nll) per scored token.
- **Δnll**: nll of the variant minus that of the original, in nats per token, on the same tokens; \
the interval comes from resampling documents.
- **KL**: mean Kullback-Leibler divergence KL(original || variant) of the next-token \
distributions, in nats.
- **top-1 %**: share of positions at which both prefer the same next token.
- **p**: paired permutation test over documents against no change; in a row of controls, the rank \
of the variant among its controls (from 19 controls on).
- **seq-rep-4**: share of 4-grams that repeat an earlier one of their text, mean over the texts \
written after the prompts; the interval comes from resampling prompts.
- **diversity**: product over n = 2, 3, 4 of the share of n-grams that are new in their text.
- **loops %**: texts that end in a cycle, repeated three times or more over twelve tokens or more.
- **same %**: texts that are the original's, token by token.
- **max |x|**, **kurtosis**: the largest of any observed module; a Gaussian has kurtosis 3.
- **massive**: activations in the residual stream beyond 100 and 1000 times the median of their \
text.
"""


def markdown(results: Results) -> str:
    """The report as Markdown text.

    Args:
        results: What was measured.
    """
    run, model, data = results.run, results.model, results.data
    lines = [
        f"# {run.name}, version {run.version}",
        "",
        f"`{run.command}` of **{title(results)}**, split {data.split} ({model.class_name}, "
        f"{model.parameters:,} parameters, {model.dtype}): "
        f"{data.tokens:,} scored tokens in {data.windows:,} windows of {data.documents:,} "
        f"documents (max_length {data.max_length}, stride {data.stride}, join {data.join}, "
        f"bos {data.bos}). {run.duration_seconds:.0f} seconds."
        + (" **Partial**: only a part of the split was scored." if run.partial else ""),
        "",
        _line(header(results)),
        _line(["---", *["---:"] * (len(header(results)) - 1)]),
        *(_line([cell.strip() for cell in row.cells]) for row in rows(results)),
        "",
        *_looked_at(results),
        *(f"- {sentence}" for sentence in sentences(results)),
        "- Noise floor, the original scored again on the first eight batches: "
        f"Δnll {number(results.noise_floor.delta_nll)}, "
        f"KL {number(results.noise_floor.kl_mean)}.",
        "",
        _HOW_TO_READ,
    ]
    return "\n".join(lines)


def _looked_at(results: Results) -> list[str]:
    lines = [_line([cell.strip() for cell in row.cells]) for row in text_rows(results)]
    names = text_header(results)
    return [_line(names), _line(["---", *["---:"] * (len(names) - 1)]), *lines, ""] if lines else []


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
