"""What is measured beside the original: variants, controls, floors."""

from __future__ import annotations

from harness.evaluation.design import NOISE_FLOOR, ROUNDING, Design, Subject, find_subjects
from harness.outliers import AbsoluteThreshold, TopFraction
from harness.outliers.variants import VariantConfig, variants_of
from harness.results.schema import ModelRecord
from tests.tiny import tiny_model

ZEROED = VariantConfig(AbsoluteThreshold(0.6), controls=2)


def subjects(**configs: VariantConfig) -> list[Subject]:
    return find_subjects(tiny_model("llama"), variants_of(configs), 0)


def test_controls_follow_their_variant_and_floors_come_last() -> None:
    found = subjects(zeroed=ZEROED, other=VariantConfig(TopFraction(0.01)))
    names = ["zeroed", "zeroed-control-0", "zeroed-control-1", "other", ROUNDING, NOISE_FLOOR]
    assert [subject.name for subject in found] == names
    zeroed, first, second, other, *floors = found
    assert [s.control_of for s in (zeroed, first, second, other)] == [None, *["zeroed"] * 2, None]
    assert [s.is_thorough for s in found] == [True, True, False, True, False, False]
    assert [s.patch_file for s in found] == [
        "patches/zeroed.safetensors",
        None,
        None,
        "patches/other.safetensors",
        None,
        None,
    ]
    assert all(floor.takes(7) and not floor.takes(8) for floor in floors)
    assert not any(floor.is_original for floor in floors)
    assert zeroed.edit is not None
    assert zeroed.edit.entries == first.edit.entries > 0  # type: ignore[union-attr]
    design = Design(ModelRecord("m", None, "M", 1, "float32"), tuple(found))
    assert [subject.name for subject in design.reported] == names[:4]


def test_a_criterion_that_selects_nothing_has_no_controls() -> None:
    nothing, *floors = subjects(none=VariantConfig(AbsoluteThreshold(1e6), controls=3))
    assert nothing.is_original
    assert nothing.patch_file is None
    assert len(floors) == 2
