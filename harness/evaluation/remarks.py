"""What a reader should know before believing a figure, one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from harness.evaluation.design import Subject
from harness.outliers.control import Shared
from harness.results.schema import NoiseFloor, Rounding, VariantRecord, VersusOriginal
from harness.statistics.controls import FEWEST_CONTROLS
from harness.statistics.significance import FEWEST_RESAMPLES, FEWEST_UNITS
from harness.writing.generate import Continuation

# Share of a tensor's edited entries in common from which on a control is no longer something else,
# and share of all edited entries below which a tensor counts only if it has an entry in common.
_MUCH = 0.05
_NAMED = 3
# What is not this many times as large as rounding may be rounding.
_NEAR = 2


def beforehand(subjects: Sequence[Subject], unsplit: str | None) -> list[str]:
    """What is known before anything is measured.

    Args:
        subjects: Variants and controls.
        unsplit: Why the model could not be split into body and tail; None where it was.
    """
    said = []
    if unsplit is not None:
        said.append(f"All logits of a batch are in memory at once: {unsplit}.")
    with_controls = {subject.control_of for subject in subjects}
    for subject in subjects:
        if subject.name in with_controls and (left := subject.intervention.untouched_by_controls):
            said.append(
                f"{subject.name}: its controls leave {left:,} of their entries as they are, since "
                "there the new value divided by the old is no finite number."
            )
        if subject.control_of is None and subject.is_original and subject.edit is not None:
            nearest = subject.edit.nearest
            said.append(
                f"{subject.name}: {subject.edit.criterion} selects nothing, so this variant is the "
                f"original{f'; {nearest}' if nearest else ''}."
            )
    return said


def overlaps(subjects: Sequence[Subject], records: Mapping[str, VariantRecord]) -> list[str]:
    """Says which variants have controls that do much of the same.

    Args:
        subjects: Variants and controls.
        records: What was measured, by name.
    """
    with_controls = {subject.control_of for subject in subjects}
    return [
        f"{subject.name}: {_overlap(shared, records[subject.name])}"
        for subject in subjects
        if subject.name in with_controls
        and (shared := _much_shared(subject.intervention.shared_with_controls()))
    ]


def near_rounding(
    records: Mapping[str, VariantRecord], floor: NoiseFloor | None, dtype: str
) -> list[str]:
    """Sentences about variants that change no more than rounding does.

    Args:
        records: What was measured of the variants, by name.
        floor: What of a difference is arithmetic; None where nothing was scored.
        dtype: Data type of the weights, for example ``bfloat16``.
    """
    if floor is None or floor.rounding is None:
        return []
    advice = (
        "; model.dtype: float32 tells more" if torch.finfo(getattr(torch, dtype)).bits < 32 else ""
    )
    found = []
    for name, record in records.items():
        versus, edited = record.versus_original, record.edit is not None and record.edit.entries
        near = _near(versus, floor.rounding) if versus is not None and edited else None
        if near is not None:
            found.append(f"{name}: its {near} is near what rounding in {dtype} makes{advice}.")
    return found


def near_ties(texts: Mapping[str, Mapping[int, Continuation]], dtype: str) -> list[str]:
    """Says how much of what was written rounding decides.

    Args:
        texts: What each model wrote, by number of the prompt.
        dtype: Data type of the weights, for example ``bfloat16``.
    """
    written = [text for own in texts.values() for text in own.values()]
    near, choices = sum(text.near for text in written), sum(text.choices for text in written)
    if not near:
        return []
    return [
        f"Rounding in {dtype} may decide {near:,} of {choices:,} choices in the texts, so near is "
        "the second candidate: another batch, machine or device may write other texts from there."
    ]


def _near(versus: VersusOriginal, rounding: Rounding) -> str | None:
    """What of a variant's effect is near rounding, beside what rounding makes."""
    pairs = {
        "divergence from the original (KL {})": (versus.kl_mean, rounding.kl_mean),
        "change of nll ({})": (versus.delta_nll, rounding.delta_nll),
    }
    for words, (effect, noise) in pairs.items():
        if effect is not None and noise is not None and abs(effect) <= _NEAR * abs(noise):
            return words.format(f"{effect:.2g}, rounding {noise:.2g}")
    return None


def _much_shared(found: Sequence[Shared]) -> list[Shared]:
    """Tensors of which a control edits much of the same entries, the worst first."""
    whole = sum(shared.entries for shared in found)
    much = [
        shared
        for shared in found
        if _share(shared) > _MUCH and (shared.expected >= 1 or shared.entries > _MUCH * whole)
    ]
    return sorted(much, key=_share, reverse=True)


def _share(shared: Shared) -> float:
    """The share of a tensor's edited entries that a control edits too, 0 to 1."""
    return shared.expected / shared.entries if shared.entries else 0.0


def _overlap(shared: Sequence[Shared], record: VariantRecord) -> str:
    places = [f"{_share(each):.0%} of its {each.entries:,} in {each.tensor}" for each in shared]
    if (others := len(shared) - _NAMED) > 0:
        places = [*places[:_NAMED], f"much in {others} other tensor{'s' * (others > 1)}"]
    sentence = f"a control edits many of the same entries ({', '.join(places)})"
    versus = record.versus_control
    if versus is not None and (versus.excess_delta_nll or 0) > 0:
        return f"{sentence}; the excess over controls understates its effect."
    return f"{sentence}; the two cannot differ by much there."


def too_few(
    samples: Sequence[int], variants: Mapping[str, VariantRecord], resamples: int, units: str
) -> list[str]:
    """Sentences about what cannot be told of so little: each reason once for all variants.

    Args:
        samples: Of each unit that was scored, the number of its text.
        variants: What was measured.
        resamples: Random changes of sign behind p-values.
        units: What the units are called.
    """
    if not variants:
        return []
    said = []
    texts = len(set(samples))
    if texts < len(samples):
        held = "one text" if texts == 1 else f"{texts} different texts"
        said.append(
            f"{len(samples)} {units} hold {held}: equal ones count in totals each, in intervals "
            "and p-values as one."
        )
    if texts == 1:
        said.append(
            f"Of one text alone no spread is told: no intervals and no p (texts). Two different "
            f"{units} give intervals, {FEWEST_UNITS} a p."
        )
    elif texts < FEWEST_UNITS:
        said.append(
            f"No p (texts): of {texts} different {units} it could not be below "
            f"{2 / 2**texts:.2g}; at least {FEWEST_UNITS} can reach 0.05."
        )
    elif resamples < FEWEST_RESAMPLES:
        said.append(
            f"No p (texts): of so few changes of sign it could not be below "
            f"{1 / (1 + resamples):.2g}; model.resamples: {FEWEST_RESAMPLES} can reach 0.05."
        )
    elif still := [name for name, variant in variants.items() if _hardly_moves(variant)]:
        said.append(
            f"No p (texts) where fewer than {FEWEST_UNITS} {units} change: {', '.join(still)}."
        )
    against = [v.versus_control.controls for v in variants.values() if v.versus_control]
    few = [controls for controls in against if controls < FEWEST_CONTROLS]
    if few:
        said.append(
            f"No p (vs random) and no ratio of fewer than {FEWEST_CONTROLS} controls: "
            f"with {max(few)} p could not be below {1 / (1 + max(few)):.2g}."
        )
    if 1 in few:
        said.append(
            "One control tells nothing of the spread between random selections: no interval of "
            "their mean nor of the excess over it. At least two controls give one."
        )
    return said


def _hardly_moves(variant: VariantRecord) -> bool:
    """Whether a variant has no p-value although its entries were edited and its nll is finite."""
    change = variant.versus_original
    if change is None or variant.edit is None or variant.edit.is_original:
        return False
    return change.delta_nll is not None and change.p_value is None
