"""What TensorBoard shows of scores and results: scalars by tag, the same for every variant."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.report.tables import title
from harness.results import schema
from harness.scoring import TokenScores


def step_scalars(scores: Mapping[str, TokenScores], original: str) -> dict[str, dict[str, float]]:
    """Scalars of one batch by variant.

    Args:
        scores: Scores of the batch's tokens by variant, the original among them.
        original: Name of the original.
    """
    base = scores[original].nll.double().mean()
    tags: dict[str, dict[str, float]] = {}
    for name, score in scores.items():
        nll = score.nll.double().mean()
        kl = [0.0] if score.kl is None else score.kl.double().tolist()
        agree = [1.0] if score.agree is None else score.agree.double().tolist()
        tags[name] = {
            "likelihood/nll": float(nll),
            "likelihood/delta_nll": float(nll - base),
            "divergence/kl_mean": math.fsum(kl) / len(kl),
            # Python's maximum may pass over a NaN.
            "divergence/kl_max": 0.0 if score.kl is None else float(score.kl.max()),
            "divergence/top1_agreement": math.fsum(agree) / len(agree),
        }
    return tags


def hyperparameters(
    name: str, record: schema.VariantRecord, measured: schema.Results
) -> dict[str, str | int]:
    """What tells a row of the HParams page from the others: no more than it shows unasked.

    Args:
        name: The variant.
        record: What was measured of it.
        measured: All results.
    """
    edit = record.edit
    return {
        "variant": name,
        "criterion": (edit.criterion or "unknown") if edit else "none",
        "edit": (edit.edit or "unknown") if edit else "none",
        "entries": edit.entries if edit else 0,
        "model": title(measured),
    }


def final_metrics(record: schema.VariantRecord) -> dict[str, float]:
    """The figures of a whole run, under the same tags for every variant; NaN where there is none.

    Args:
        record: What was measured of a variant, or of the original.
    """
    scored, versus = record.likelihood, record.versus_original
    text, flow = record.generation, record.activations
    figures = {
        "final/nll": scored.nll if scored else None,
        "final/perplexity": scored.perplexity if scored else None,
        "final/delta_nll": versus.delta_nll if versus else _of_original(scored, 0.0),
        "final/kl_mean": versus.kl_mean if versus else _of_original(scored, 0.0),
        "final/top1_agreement": versus.top1_agreement if versus else _of_original(scored, 1.0),
        "final/seq_rep_4": text.seq_rep_4 if text else None,
        "final/distinct_2": text.distinct_2 if text else None,
        "final/diversity": text.diversity if text else None,
        "final/loop_rate": text.loop_rate if text else None,
        "final/identical_to_original": _identical(record),
        "final/nll_under_original": text.nll_under_original if text else None,
        "final/max_abs": flow.max_abs if flow else None,
        "final/max_kurtosis": flow.max_kurtosis if flow else None,
        "final/massive_count": flow.massive_count if flow else None,
    }
    return {tag: math.nan if value is None else float(value) for tag, value in figures.items()}


def _of_original(scored: schema.Likelihood | None, value: float) -> float | None:
    """What compares the original with itself, where anything was scored at all."""
    return None if scored is None else value


def _identical(record: schema.VariantRecord) -> float | None:
    if record.generation is None:
        return None
    return 1.0 if record.edit is None else record.generation.identical_to_original
