"""The figures of a variant: how tables, legends and TensorBoard's final scalars show each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.results.numbers import (
    count,
    hidden,
    number,
    p_value,
    share,
    shown,
    signed,
    span,
    tiny_share,
    with_interval,
)
from harness.results.schema import Results, VariantRecord


@dataclass(frozen=True)
class Figure:
    """One figure of every variant.

    Attributes:
        name: Heads its column, where ``{level}`` stands for the confidence of intervals.
        show: Makes text of the figure where it is there.
        paths: Where `show` finds its arguments: keys of a variant in ``results.json``.
        meaning: What it is, for a legend; ``{...}`` stands for settings of the run.
        kept: Whether its column is shown also where it holds nothing but dashes, since the reason
            for that is told.
        tag: Its tag in TensorBoard, below ``final/``; None where it has none.
        of_original: Part of the original's record that must be there, and what the figure then is
            of the original, which is not compared with itself; None where it is measured.
    """

    name: str
    show: Callable[..., str]
    paths: tuple[str, ...]
    meaning: str
    kept: bool = False
    tag: str | None = None
    of_original: tuple[str, float] | None = None

    def cell(self, variant: VariantRecord) -> str:
        """The figure of a variant as text, a dash where there is none."""
        return shown(self.show, *(_at(variant, path) for path in self.paths))

    def value(self, variant: VariantRecord) -> float:
        """The figure of a variant as a number; NaN where there is none."""
        found = _at(variant, self.paths[0])
        if self.of_original and variant.edit is None:
            part, itself = self.of_original
            found = itself if getattr(variant, part) else None
        return math.nan if found is None else float(found)


def _at(record: Any, path: str) -> Any:
    """What stands at a path in a record; None where a part of it is not there."""
    # Names of metrics, which stand third, may hold dots.
    for part in path.split(".", 2):
        record = record.get(part) if isinstance(record, dict) else getattr(record, part, None)
    return record


EDITS = (
    Figure("edit", str, ("edit.edit",), "what was done to the outliers"),
    Figure("criterion", str, ("edit.criterion",), "which entries are outliers"),
    Figure("scope", str, ("edit.scope",), "the weights among which it looked"),
    Figure(
        "weights",
        count,
        ("edit.entries",),
        "how many were edited, tied ones once; a control edits as many, in the same tensors, at "
        "random",
    ),
    Figure("of all %", tiny_share, ("edit.fraction",), "their share of the model's weights"),
)
"""What each variant is."""

EFFECTS = (
    Figure("nll", hidden, ("likelihood.nll",), "mean negative log-likelihood, nats", tag="nll"),
    Figure(
        "ppl",
        number,
        ("likelihood.perplexity",),
        "perplexity: exp of the mean negative log-likelihood (nll) per scored token",
        tag="perplexity",
    ),
    Figure(
        "Δnll [{level}]",
        signed,
        ("versus_original.delta_nll", "versus_original.delta_nll_ci95"),
        "nll of the variant minus that of the original, nats per token, on the same tokens; the "
        "interval is over documents",
        tag="delta_nll",
        of_original=("likelihood", 0.0),
    ),
    Figure(
        "KL",
        number,
        ("versus_original.kl_mean",),
        "mean Kullback-Leibler divergence KL(original || variant) of the next-token "
        "distributions, nats",
        tag="kl_mean",
        of_original=("likelihood", 0.0),
    ),
    Figure(
        "top-1 %",
        share,
        ("versus_original.top1_agreement",),
        "positions at which both find the same next token likeliest",
        tag="top1_agreement",
        of_original=("likelihood", 1.0),
    ),
    Figure(
        "p (texts)",
        p_value,
        ("versus_original.p_value",),
        "paired permutation test over documents, against no change at all",
        kept=True,
    ),
)
"""What each variant changed; of controls, the mean."""

AGAINST_CHANCE = (
    Figure("controls", count, ("versus_control.controls",), "random controls that were drawn"),
    Figure(
        "their Δnll",
        span,
        ("versus_control.lowest", "versus_control.highest"),
        "change of nll of the least and of the most harmful control",
    ),
    Figure(
        "excess [{level}]",
        signed,
        ("versus_control.excess_delta_nll", "versus_control.excess_ci95"),
        "Δnll beyond the mean of the controls, nats per token; the interval is for other documents "
        "and other draws of controls",
    ),
    Figure(
        "times",
        number,
        ("versus_control.importance_ratio",),
        "Δnll divided by the mean of the controls, where there are enough of them and that mean is "
        "not zero",
    ),
    Figure(
        "p (vs random)",
        p_value,
        ("versus_control.p_value",),
        "rank of the variant among its controls, from 19 controls on",
        kept=True,
    ),
)
"""Each variant beside as many weights chosen at random."""

PER_WORD = (
    Figure("word ppl", number, ("likelihood.word_perplexity",), "perplexity per word"),
    Figure("byte ppl", number, ("likelihood.byte_perplexity",), "perplexity per UTF-8 byte"),
    Figure("bits/byte", number, ("likelihood.bits_per_byte",), "nll per UTF-8 byte, in bits"),
)
"""Likelihood that can be compared between tokenizers."""

_FLUENCY = (
    Figure(
        "texts",
        count,
        ("generation.texts",),
        "texts of at least one token, which the figures are of",
    ),
    Figure("tokens", number, ("generation.mean_tokens",), "their mean length"),
    Figure(
        "orig. nll",
        number,
        ("generation.nll_under_original",),
        "how unlikely the original finds them after their prompts, nats per token: what looks "
        "diverse may be gibberish",
        tag="nll_under_original",
    ),
)
_DEGENERATION = (
    Figure(
        "seq-rep-4 [{level}]",
        with_interval,
        ("generation.seq_rep_4", "generation.ci95.seq_rep_4"),
        "share of 4-grams that repeat an earlier one of their text, mean over texts; the interval "
        "is over prompts",
        tag="seq_rep_4",
    ),
    Figure(
        "distinct-2",
        hidden,
        ("generation.distinct_2",),
        "different bigrams of each text, summed, per token",
        tag="distinct_2",
    ),
    Figure(
        "diversity",
        number,
        ("generation.diversity",),
        "product over n = 2, 3, 4 of the share of n-grams that are new in their text",
        tag="diversity",
    ),
    Figure(
        "loops %",
        share,
        ("generation.loop_rate",),
        "texts that end in a cycle, repeated three times or more over twelve tokens or more",
        tag="loop_rate",
    ),
    Figure(
        "same %",
        share,
        ("generation.identical_to_original",),
        "texts that are the original's, token by token",
        tag="identical_to_original",
        of_original=("generation", 1.0),
    ),
)
TEXTS = _FLUENCY + _DEGENERATION
"""What was written after the prompts."""

FLOW = (
    Figure(
        "max |x|",
        number,
        ("activations.max_abs",),
        "largest magnitude of any observed module while the {read} read",
        tag="max_abs",
    ),
    Figure("at", str, ("activations.max_abs_site",), "the module that put it out"),
    Figure(
        "kurtosis",
        number,
        ("activations.max_kurtosis",),
        "largest of any observed module; a Gaussian has 3",
        tag="max_kurtosis",
    ),
    Figure(
        "massive",
        count,
        ("activations.massive_count",),
        "activations in the residual stream beyond {threshold:g} and beyond {ratio:g} times the "
        "median of their text",
        tag="massive_count",
    ),
)
"""What flowed through the models."""

TAGGED = tuple(f for f in EFFECTS + _DEGENERATION + _FLUENCY + FLOW if f.tag)
"""What TensorBoard shows of a whole run, in the order of its tags."""


def further_metrics(results: Results) -> tuple[Figure, ...]:
    """Figures of the metrics that the user named."""
    texts = [v.generation for v in results.variants.values() if v.generation]
    names = dict.fromkeys(name for written in texts for name in written.metrics)
    return tuple(
        Figure(name, number, (f"generation.metrics.{name}",), "as `evaluate` defines it")
        for name in names
    )
