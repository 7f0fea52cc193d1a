"""What TensorBoard shows of scores and results: scalars by tag, the same for every variant."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.results import schema
from harness.results.figures import TAGGED
from harness.results.titles import title
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
    return {f"final/{figure.tag}": figure.value(record) for figure in TAGGED}
