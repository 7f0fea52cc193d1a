"""What the figures themselves say of how far they can be believed, one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from harness.outliers import Patch, TensorPatch
from harness.outliers.control import shared_by_chance
from harness.outliers.variants import Variant
from harness.results.schema import NoiseFloor, Rounding, VariantRecord, VersusOriginal

# Share of a tensor's edited entries in common from which on a control is no longer something else,
# and share of a patch's entries below which a tensor counts only if it has an entry in common.
_MUCH = 0.05
_NAMED = 3
# What is not this many times as large as rounding may be rounding.
_NEAR = 2


def overlaps(variants: Sequence[Variant], records: Mapping[str, VariantRecord]) -> list[str]:
    """Sentences about variants whose controls edit much of the same entries.

    Args:
        variants: Variants and controls.
        records: What was measured of the variants, by name.
    """
    with_controls = {variant.control_of for variant in variants}
    return [
        f"{variant.name}: {_overlap(shared, records[variant.name])}"
        for variant in variants
        if variant.name in with_controls and (shared := _much_shared(variant.patch))
    ]


def near_rounding(
    records: Mapping[str, VariantRecord], floor: NoiseFloor | None, dtype: torch.dtype
) -> list[str]:
    """Sentences about variants that change no more than rounding does.

    Args:
        records: What was measured of the variants, by name.
        floor: What of a difference is arithmetic; None where nothing was scored.
        dtype: Data type of the weights.
    """
    if floor is None or floor.rounding is None:
        return []
    precision = str(dtype).removeprefix("torch.")
    advice = "; model.dtype: float32 tells more" if torch.finfo(dtype).bits < 32 else ""
    found = []
    for name, record in records.items():
        versus, edited = record.versus_original, record.edit is not None and record.edit.entries
        near = _near(versus, floor.rounding) if versus is not None and edited else None
        if near is not None:
            found.append(f"{name}: its {near} is near what rounding in {precision} makes{advice}.")
    return found


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


def _much_shared(patch: Patch) -> list[TensorPatch]:
    """Tensors of which a control edits much of the same entries, the worst first."""
    much = [
        tensor
        for tensor in patch.tensors
        if _share(tensor) > _MUCH
        and (shared_by_chance(tensor) >= 1 or tensor.entries > _MUCH * patch.entries)
    ]
    return sorted(much, key=_share, reverse=True)


def _share(tensor: TensorPatch) -> float:
    """The share of a tensor's edited entries that a control edits too, 0 to 1."""
    return shared_by_chance(tensor) / tensor.entries if tensor.entries else 0.0


def _overlap(shared: Sequence[TensorPatch], record: VariantRecord) -> str:
    places = [f"{_share(t):.0%} of its {t.entries:,} in {t.name}" for t in shared[:_NAMED]]
    if (others := len(shared) - _NAMED) > 0:
        places.append(f"much in {others} other tensor{'s' * (others > 1)}")
    sentence = f"a control edits many of the same entries ({', '.join(places)})"
    versus = record.versus_control
    if versus is not None and (versus.excess_delta_nll or 0) > 0:
        return f"{sentence}; the excess over controls understates its effect."
    return f"{sentence}; the two cannot differ by much there."
