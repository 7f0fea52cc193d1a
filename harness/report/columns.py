"""The columns of the tables: each with its name, its figure as text, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.numbers import (
    count,
    number,
    p_value,
    share,
    signed,
    span,
    text,
    tiny_share,
    with_interval,
)
from harness.results.schema import Results, VariantRecord


@dataclass(frozen=True)
class Column:
    """One figure of every variant.

    Attributes:
        name: Its name, in which ``{level}`` stands for the confidence of intervals.
        show: Makes text of the figure, a dash of one that is not there.
        paths: Where `show` finds its arguments: keys of a variant in ``results.json``.
        meaning: What it is, for a legend; ``{...}`` stands for settings of the run.
        kept: Whether it is shown also where no variant has the figure, since the reason for that
            is told.
    """

    name: str
    show: Callable[..., str]
    paths: tuple[str, ...]
    meaning: str
    kept: bool = False

    def cell(self, variant: VariantRecord) -> str:
        """The figure of a variant as text."""
        return self.show(*(_at(variant, path.split(".")) for path in self.paths))


def _at(record: Any, path: Sequence[str]) -> Any:
    """What stands at a path in a record; None where a part of it is not there."""
    for part in path:
        record = record.get(part) if isinstance(record, dict) else getattr(record, part, None)
    return record


EDITS = (
    Column("edit", text, ("edit.edit",), "what was done to the outliers"),
    Column("criterion", text, ("edit.criterion",), "which entries are outliers"),
    Column("scope", text, ("edit.scope",), "the weights among which it looked"),
    Column(
        "weights",
        count,
        ("edit.entries",),
        "how many were edited, tied ones once; a control edits as many, in the same tensors, at "
        "random",
    ),
    Column("of all %", tiny_share, ("edit.fraction",), "their share of the model's weights"),
)
"""What each variant is."""

EFFECTS = (
    Column(
        "ppl",
        number,
        ("likelihood.perplexity",),
        "perplexity: exp of the mean negative log-likelihood (nll) per scored token",
    ),
    Column(
        "Δnll [{level}]",
        signed,
        ("versus_original.delta_nll", "versus_original.delta_nll_ci95"),
        "nll of the variant minus that of the original, nats per token, on the same tokens; the "
        "interval is over documents",
    ),
    Column(
        "KL",
        number,
        ("versus_original.kl_mean",),
        "mean Kullback-Leibler divergence KL(original || variant) of the next-token "
        "distributions, nats",
    ),
    Column(
        "top-1 %",
        share,
        ("versus_original.top1_agreement",),
        "positions at which both find the same next token likeliest",
    ),
    Column(
        "p (texts)",
        p_value,
        ("versus_original.p_value",),
        "paired permutation test over documents, against no change at all",
        kept=True,
    ),
)
"""What was done to each variant and what it changed; of controls, the mean."""

AGAINST_CHANCE = (
    Column("controls", count, ("versus_control.controls",), "random controls that were drawn"),
    Column(
        "their Δnll",
        span,
        ("versus_control.lowest", "versus_control.highest"),
        "change of nll of the least and of the most harmful control",
    ),
    Column(
        "excess [{level}]",
        signed,
        ("versus_control.excess_delta_nll", "versus_control.excess_ci95"),
        "Δnll beyond the mean of the controls, nats per token; the interval is for other documents "
        "and other draws of controls",
    ),
    Column(
        "times",
        number,
        ("versus_control.importance_ratio",),
        "Δnll divided by the mean of the controls, where there are enough of them and that mean is "
        "not zero",
    ),
    Column(
        "p (vs random)",
        p_value,
        ("versus_control.p_value",),
        "rank of the variant among its controls, from 19 controls on",
        kept=True,
    ),
)
"""Each variant beside as many weights chosen at random."""

PER_WORD = (
    Column("word ppl", number, ("likelihood.word_perplexity",), "perplexity per word"),
    Column("byte ppl", number, ("likelihood.byte_perplexity",), "perplexity per UTF-8 byte"),
    Column("bits/byte", number, ("likelihood.bits_per_byte",), "nll per UTF-8 byte, in bits"),
)
"""Likelihood that can be compared between tokenizers."""

TEXTS = (
    Column(
        "texts",
        count,
        ("generation.texts",),
        "texts of at least one token, which the figures are of",
    ),
    Column("tokens", number, ("generation.mean_tokens",), "their mean length"),
    Column(
        "orig. nll",
        number,
        ("generation.nll_under_original",),
        "how unlikely the original finds them after their prompts, nats per token: what looks "
        "diverse may be gibberish",
    ),
    Column(
        "seq-rep-4 [{level}]",
        with_interval,
        ("generation.seq_rep_4", "generation.ci95.seq_rep_4"),
        "share of 4-grams that repeat an earlier one of their text, mean over texts; the interval "
        "is over prompts",
    ),
    Column(
        "diversity",
        number,
        ("generation.diversity",),
        "product over n = 2, 3, 4 of the share of n-grams that are new in their text",
    ),
    Column(
        "loops %",
        share,
        ("generation.loop_rate",),
        "texts that end in a cycle, repeated three times or more over twelve tokens or more",
    ),
    Column(
        "same %",
        share,
        ("generation.identical_to_original",),
        "texts that are the original's, token by token",
    ),
)
"""What was written after the prompts."""

FLOW = (
    Column(
        "max |x|",
        number,
        ("activations.max_abs",),
        "largest magnitude of any observed module while the {read} read",
    ),
    Column("at", text, ("activations.max_abs_site",), "the module that put it out"),
    Column(
        "kurtosis",
        number,
        ("activations.max_kurtosis",),
        "largest of any observed module; a Gaussian has 3",
    ),
    Column(
        "massive",
        count,
        ("activations.massive_count",),
        "activations in the residual stream beyond {threshold:g} and beyond {ratio:g} times the "
        "median of their text",
    ),
)
"""What flowed through the models."""


def further_metrics(results: Results) -> tuple[Column, ...]:
    """Figures of the metrics that the user named."""
    written = [v.generation for v in results.variants.values() if v.generation]
    names = dict.fromkeys(name for text in written for name in text.metrics)
    return tuple(Metric(name, number, (name,), "as `evaluate` defines it") for name in names)


class Metric(Column):
    """A metric of the texts, whose name may hold anything."""

    def cell(self, variant: VariantRecord) -> str:
        """The figure of a variant as text."""
        return self.show(_at(variant, ["generation", "metrics", self.name]))
