"""From continuations to the figures of ``results.json`` and the rows of ``generations.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.evaluation.design import Decode, Design, Resampling
from harness.results import schema
from harness.results.schema import ORIGINAL
from harness.statistics.intervals import ratio_intervals
from harness.writing.continuations import (
    degeneration_differences,
    degeneration_intervals,
    departure,
    first_divergence,
    nll_difference,
)
from harness.writing.degeneration import counts_of, repetition
from harness.writing.generate import Continuation

Written = Mapping[int, Continuation]
"""Continuations by number of the prompt."""
_FLUENCY = "nll_under_original"


def text_records(
    texts: Mapping[str, Written], design: Design
) -> tuple[dict[str, schema.TextRecord], list[str]]:
    """Figures of the texts of every model.

    Args:
        texts: What each wrote, by name; nothing where no prompts were continued.
        design: How texts are decoded, and which further metrics there are.

    Returns:
        Records by model, and a sentence for each metric that failed.
    """
    if not texts.get(ORIGINAL):
        return {}, []
    decoded = {
        name: {n: design.decode(text.tokens) for n, text in written.items() if not text.broken}
        for name, written in texts.items()
        if design.metrics  # or nobody reads them
    }
    figures, problems = foreign_metrics(design.metrics, decoded, ORIGINAL)
    records = {
        name: replace(
            measure_texts(
                written, None if name == ORIGINAL else texts[ORIGINAL], design.resampling
            ),
            metrics=figures.get(name, {}),
        )
        for name, written in texts.items()
    }
    return records, problems


def measure_texts(
    written: Written, original: Written | None, resampling: Resampling
) -> schema.TextRecord:
    """Figures of the texts of one model.

    Prompts that either side could not continue are left out of what compares the two, and of their
    likelihoods those after which either wrote no token.

    Args:
        written: What it wrote.
        original: What the original wrote after the same prompts; None for the original itself.
        resampling: How intervals are made.
    """
    whole = [number for number in sorted(written) if not written[number].broken]
    intervals = degeneration_intervals(_counts(written, whole), resampling.confidence)
    texts = [written[number] for number in whole if written[number].tokens]
    tokens = sum(len(text.tokens) for text in texts)
    nll, lengths = _fluency(texts)
    fluency = ratio_intervals([nll], lengths, resampling.confidence)[0]
    figures: dict[str, Any] = {name: interval.estimate for name, interval in intervals.items()}
    record = schema.TextRecord(
        **figures,
        tokens=tokens,
        prompts=len(written),
        broken=len(written) - len(whole),
        ci95={
            **{name: interval.bounds for name, interval in intervals.items()},
            _FLUENCY: fluency.bounds,
        },
        nll_under_original=fluency.estimate,
        texts=len(texts),
        mean_tokens=tokens / len(texts) if texts else None,
    )
    if original is None:
        return record
    both = [number for number in whole if not original[number].broken]
    differences = degeneration_differences(
        _counts(written, both), _counts(original, both), resampling.confidence
    )
    ours, theirs = ([side[number] for number in both] for side in (written, original))
    departed = departure([text.tokens for text in ours], [text.tokens for text in theirs])
    told = [pair for pair in zip(ours, theirs, strict=True) if pair[0].tokens and pair[1].tokens]
    ours, theirs = ([pair[side] for pair in told] for side in (0, 1))
    differences[_FLUENCY] = nll_difference(_fluency(ours), _fluency(theirs), resampling.confidence)
    return replace(
        record,
        identical_to_original=departed.identical,
        first_divergence=departed.median_point,
        delta={name: interval.estimate for name, interval in differences.items()},
        delta_ci95={name: interval.bounds for name, interval in differences.items()},
    )


def foreign_metrics(
    metrics: Sequence[Any], texts: Mapping[str, Mapping[int, str]], original: str
) -> tuple[dict[str, dict[str, float | None]], list[str]]:
    """Computes metrics of ``evaluate`` on the texts of every model.

    Args:
        metrics: The metrics, loaded.
        texts: Texts by model and number of the prompt, without those that could not be written.
        original: Name of the original, whose texts are the references of the others.

    Returns:
        Figures by model, and a sentence for each metric that failed.
    """
    figures: dict[str, dict[str, float | None]] = {name: {} for name in texts}
    problems: list[str] = []
    if not metrics:
        return figures, problems
    from harness.writing.text_metrics import compute_metric

    for metric in metrics:
        for name, written in texts.items():
            numbers = sorted(written.keys() & texts[original].keys())
            if not numbers:
                continue  # that nothing was written is said elsewhere, once for all metrics
            references = [texts[original][number] for number in numbers]
            found = compute_metric(metric, [written[number] for number in numbers], references)
            figures[name] |= found.figures
            if found.problem is not None:
                problems.append(f"{name}: {found.problem}.")
    return figures, problems


def text_rows(
    texts: Mapping[str, Written], prompts: Sequence[str], original: str, decode: Decode
) -> Iterator[dict[str, Any]]:
    """Yields the rows of ``generations.jsonl``: prompt by prompt, the original's first.

    Args:
        texts: Continuations by model and number of the prompt.
        prompts: The prompts.
        original: Name of the original.
        decode: Text of token ids.
    """
    for number in sorted(texts[original]):
        reference = texts[original][number]
        reference_text = decode(reference.tokens)
        for name, written in texts.items():
            tokens = written[number].tokens
            text = decode(tokens)
            place = first_divergence(tokens, reference.tokens)
            # A token may end within a character, which then belongs to what departs.
            same = None
            if place is not None:
                same = min(_common(decode(tokens[:place]), t) for t in (text, reference_text))
            yield {
                "prompt_number": number,
                "prompt": prompts[number],
                "variant": name,
                "text": text,
                "tokens": list(tokens),
                "broken": written[number].broken,
                "nll_under_original": _mean_nats(written[number]),
                "diverges_at": place,
                "diverges_at_character": same,
            }


def _counts(written: Written, numbers: Sequence[int]) -> Any:
    return counts_of([repetition(written[number].tokens) for number in numbers])


def _fluency(texts: Sequence[Continuation]) -> tuple[list[float], list[int]]:
    """Negative log-likelihood of each text, NaN where it was not scored, and its tokens."""
    nll = [text.nll if text.nll is not None else math.nan if text.tokens else 0 for text in texts]
    return nll, [len(text.tokens) for text in texts]


def _mean_nats(text: Continuation) -> float | None:
    """Mean negative log-likelihood of a text's tokens, nats; None where there is none."""
    if text.nll is None or not math.isfinite(text.nll):
        return None
    return text.nll / len(text.tokens)


def _common(one: str, other: str) -> int:
    """Characters that two texts have in common from the start on."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((k for k, (a, b) in pairs if a != b), min(len(one), len(other)))
