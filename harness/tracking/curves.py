"""What TensorBoard shows of scores and results: scalars by tag, the same for every variant."""

from __future__ import annotations

from harness.results import schema
from harness.results.figures import TAGGED
from harness.results.titles import title


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
