"""When figures warn of themselves, in examples made by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import pytest
import torch
from torch import Tensor, nn

from harness.evaluation.design import Subject, find_subjects
from harness.evaluation.remarks import (
    beforehand,
    near_rounding,
    near_ties,
    overlaps,
    too_few,
)
from harness.outliers import AbsoluteThreshold, Clip, Criterion, Edit, Patch, TensorPatch, Zero
from harness.outliers.variants import OutlierEdit
from harness.results.schema import (
    EditRecord,
    NoiseFloor,
    Rounding,
    VariantRecord,
    VersusControl,
    VersusOriginal,
)
from harness.writing.generate import Continuation

NORM = ("norm", 575, (576,))
MATRIX = ("up", 50_000, (5_000, 1_000))


def patch_of(*tensors: tuple[str, int, tuple[int, ...]]) -> Patch:
    made = []
    for name, entries, shape in tensors:
        assert entries <= prod(shape)
        values = torch.zeros(entries)
        made.append(TensorPatch(name, shape, torch.arange(entries), values, values))
    return Patch(tuple(made))


def against(excess: float | None) -> VariantRecord:
    return VariantRecord(versus_control=VersusControl(3, 0.1, None, excess, None, None, None))


def said(patch: Patch, excess: float | None = 0.5) -> list[str]:
    subjects = [Subject("a", patch), Subject("a-control-0", patch, control_of="a")]
    return overlaps(subjects, {"a": against(excess)})


# -- overlap -----------------------------------------------------------------------------------


def test_a_norm_hidden_among_matrices_is_named() -> None:
    # Of all entries 2 % are in common: a look at the whole is silent.
    assert said(patch_of(NORM, MATRIX)) == [
        "a: a control edits many of the same entries (100% of its 575 in norm); the excess over "
        "controls understates its effect."
    ]


@pytest.mark.parametrize("excess", [-0.1, 0.0, None])
def test_only_a_positive_excess_understates(excess: float | None) -> None:
    (sentence,) = said(patch_of(NORM), excess)
    assert sentence.endswith("(100% of its 575 in norm); the two cannot differ by much there.")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ([2, 5, 3], "50% of its 50 in n5, 30% of its 30 in n3, 20% of its 20 in n2"),
        ([2, 5, 3, 9], "90% of its 90 in n9, 50% of its 50 in n5, 30% of its 30 in n3, much in 1 "
         "other tensor"),
        ([2, 5, 3, 9, 4], "90% of its 90 in n9, 50% of its 50 in n5, 40% of its 40 in n4, much in "
         "2 other tensors"),
    ],
)  # fmt: skip
def test_the_worst_are_named_first_and_others_counted(tensors: list[int], words: str) -> None:
    (sentence,) = said(patch_of(*((f"n{k}", 10 * k, (100,)) for k in tensors)))
    assert f"({words});" in sentence


@pytest.mark.parametrize(
    ("tensors", "silent"),
    [
        ([MATRIX], True),
        ([("bias", 2, (20,)), MATRIX], True),  # a tenth, but of two among fifty thousand
        ([("bias", 2, (20,))], False),  # all that is edited
        ([("bias", 10, (20,)), MATRIX], False),  # five in common
        ([("bias", 1, (20,))], True),  # a twentieth
    ],
)
def test_a_tensor_of_no_weight_is_not_named(tensors: list[object], silent: bool) -> None:
    assert (said(patch_of(*tensors)) == []) is silent  # type: ignore[arg-type]


def test_without_a_control_nothing_is_shared() -> None:
    assert overlaps([Subject("a", patch_of(NORM))], {"a": VariantRecord()}) == []


# -- rounding ----------------------------------------------------------------------------------

FLOOR = NoiseFloor(0.0, 0.0, Rounding(1024, -2e-4, 1.3e-3, 0.976))
EDIT = EditRecord("Mine()", "Zero()", 16, 1e-7, {}, None, False)


def record(kl: float | None, delta: float | None, entries: int = 16) -> VariantRecord:
    versus = VersusOriginal(delta, None, None, None, kl, None, None, None, None)
    return VariantRecord(edit=replace(EDIT, entries=entries), versus_original=versus)


@pytest.mark.parametrize(
    ("kl", "delta", "words"),
    [
        (1.4e-3, 0.3, "divergence from the original (KL 0.0014, rounding 0.0013)"),
        (0.02, 3e-4, "change of nll (0.0003, rounding -0.0002)"),
        (0.02, -3e-4, "change of nll (-0.0003, rounding -0.0002)"),
        (0.02, 0.01, None),
        (None, None, None),
    ],
)
def test_what_is_not_twice_rounding_is_near_it(
    kl: float | None, delta: float | None, words: str | None
) -> None:
    found = near_rounding({"a": record(kl, delta)}, FLOOR, "bfloat16")
    expected = f"a: its {words} is near what rounding in bfloat16 makes; model.dtype: float32 tells"
    assert found == ([] if words is None else [f"{expected} more."])


def test_single_precision_is_not_advised_to_itself() -> None:
    (sentence,) = near_rounding({"a": record(1e-3, 0.1)}, FLOOR, "float32")
    assert sentence.endswith("is near what rounding in float32 makes.")


def test_what_edits_nothing_or_has_no_floor_is_not_judged() -> None:
    assert near_rounding({"a": record(0.0, 0.0, entries=0)}, FLOOR, "bfloat16") == []
    assert near_rounding({"original": VariantRecord()}, FLOOR, "bfloat16") == []
    near = {"a": record(0.0, 0.0)}
    unknown = NoiseFloor(0.0, 0.0, Rounding(1024, None, None, None))
    for floor in (None, NoiseFloor(0.0, 0.0), unknown):
        assert near_rounding(near, floor, "bfloat16") == []


# -- too little -------------------------------------------------------------------------------


def variant(
    p: float | None = 0.5, controls: int = 0, entries: int = 3, delta: float | None = 0.1
) -> VariantRecord:
    return VariantRecord(
        edit=EditRecord("criterion", "Zero()", entries, 0.1, {}, None, not entries),
        versus_original=VersusOriginal(delta, None, p, *[None] * 6),
        versus_control=VersusControl(controls, *[None] * 6) if controls else None,
    )


EVERY = list(range(12))
ONE_CONTROL = (
    "One control tells nothing of the spread between random selections: no interval of their mean "
    "nor of the excess over it. At least two controls give one."
)


@pytest.mark.parametrize(
    ("samples", "variants", "resamples", "expected"),
    [
        (EVERY, [variant(controls=19), variant()], 19, []),
        ([0], [], 1, []),
        (
            [0, 1, 2] * 4 + EVERY,
            [variant()],
            100,
            [
                "24 documents hold 12 different texts: equal ones count in totals each, in "
                "intervals and p-values as one."
            ],
        ),
        (
            [4, 4],
            [variant(None)],
            100,
            [
                "2 documents hold one text: equal ones count in totals each, in "
                "intervals and p-values as one.",
                "Of one text alone no spread is told: no intervals and no p (texts). Two different "
                "documents give intervals, 6 a p.",
            ],
        ),
        (
            EVERY[:3],
            [variant(None), variant(None)],
            100,
            [
                "No p (texts): of 3 different documents it could not be below 0.25; at least 6 can "
                "reach 0.05."
            ],
        ),
        (
            EVERY,
            [variant(None), variant(None)],
            18,
            [
                "No p (texts): of so few changes of sign it could not be below 0.053; "
                "model.resamples: 19 can reach 0.05."
            ],
        ),
        (
            EVERY,
            [variant(), variant(None), variant(None, entries=0), variant(None, delta=None)],
            100,
            ["No p (texts) where fewer than 6 documents change: 1."],
        ),
        (
            EVERY,
            [variant(controls=3), variant(controls=18), variant(controls=30)],
            100,
            [
                "No p (vs random) and no ratio of fewer than 19 controls: with 18 p could not be "
                "below 0.053."
            ],
        ),
        (
            EVERY,
            [variant(controls=1)],
            100,
            [
                "No p (vs random) and no ratio of fewer than 19 controls: with 1 p could not be "
                "below 0.5.",
                ONE_CONTROL,
            ],
        ),
    ],
)
def test_what_too_little_cannot_tell_is_said_once(
    samples: list[int], variants: list[VariantRecord], resamples: int, expected: list[str]
) -> None:
    named = {str(number): each for number, each in enumerate(variants)}
    assert too_few(samples, named, resamples, "documents") == expected


@dataclass(frozen=True)
class Overflow(Edit):
    """Makes every outlier infinite."""

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        return weight.new_full((len(index),), torch.inf)


@pytest.mark.parametrize(("edit", "left"), [(Overflow(), 2), (Zero(), 0), (Clip(), 0)])
def test_a_control_that_cannot_do_as_its_variant_is_said_to(edit: Edit, left: int) -> None:
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 9.0, 2.0, 8.0]])
    variant = OutlierEdit(AbsoluteThreshold(5.0), edit, controls=1)
    found = find_subjects(model, {"big": variant}, 0)
    said = [line for line in beforehand(found, None) if "controls leave" in line]
    assert len(said) == bool(left)
    if left:
        assert said[0].startswith("big: its controls leave 2 of their entries as they are")
        control = next(s.intervention for s in found if s.control_of == "big")
        with control.applied(model):
            assert model.weight.tolist() == [[1.0, 9.0, 2.0, 8.0]]


# -- texts -------------------------------------------------------------------------------------


def test_choices_that_rounding_may_decide_are_counted_over_all_models() -> None:
    text = Continuation((1, 2, 3), choices=4)
    texts = {"original": {0: text, 1: text._replace(near=2)}, "zeroed": {0: text, 1: text}}
    texts["zeroed"][1] = Continuation((7,) * 1200, choices=1200, near=1)
    assert near_ties(texts, "bfloat16") == [
        "Rounding in bfloat16 may decide 3 of 1,212 choices in the texts, so near is the second "
        "candidate: another batch, machine or device may write other texts from there."
    ]


def test_where_no_choice_is_near_nothing_is_said() -> None:
    assert near_ties({}, "float32") == []
    texts = {"original": {0: Continuation((1,), choices=2), 1: Continuation((), broken=True)}}
    assert near_ties(texts, "float32") == []
