"""What was measured is found again, and nothing that only looks like it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.data import WindowBatch
from harness.data.batch import key_of as batch_key
from harness.evaluation.keys import key_of, weights_key
from harness.evaluation.measurement import Measurement
from harness.evaluation.recall import VERSION, Recall
from harness.evaluation.step import Outcome, StepResult
from harness.outliers import AbsoluteThreshold, Clip, Zero
from harness.outliers.variants import OutlierEdit
from harness.scoring import Tally, WindowRow
from tests.tiny import tiny_model


@pytest.fixture
def model() -> nn.Module:
    return tiny_model("llama")


def test_equal_weights_have_one_key(model: nn.Module) -> None:
    assert weights_key(model) == weights_key(tiny_model("llama"))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.view(-1)[5].add_(1e-6),
        lambda w: w.view(-1)[:2].copy_(w.view(-1)[:2].flip(0)),
        lambda w: w.view(-1)[0].copy_(-w.view(-1)[0]),
        lambda w: w.copy_(w.roll(1, 0)),
    ],
    ids=["one entry", "two swapped", "a sign", "rows moved"],
)
def test_whatever_changes_in_the_weights_changes_the_key(
    model: nn.Module, change: Callable[[torch.Tensor], object]
) -> None:
    before = weights_key(model)
    with torch.no_grad():
        change(model.get_parameter("model.layers.0.mlp.up_proj.weight"))
    assert weights_key(model) != before


def test_another_data_type_is_another_key(model: nn.Module) -> None:
    assert weights_key(model) != weights_key(tiny_model("llama").to(torch.bfloat16))


def test_keys_of_interventions_tell_entries_and_values(model: nn.Module) -> None:
    edits = [
        OutlierEdit(AbsoluteThreshold(threshold), edit).find("a", model)
        for threshold, edit in ((0.05, Zero()), (0.06, Zero()), (0.05, Clip()))
    ]
    again = OutlierEdit(AbsoluteThreshold(0.05), Zero()).find("another name", model)
    assert again.key == edits[0].key
    patches = [*edits, edits[0].control(0, model), edits[0].control(1, model)]
    assert len({patch.key for patch in patches}) == len(patches)


def test_keys_of_batches_tell_what_is_scored() -> None:
    ids, mask, targets = torch.tensor([[1, 2, 3]]), torch.ones(1, 3), torch.tensor([[2, 3, 4]])
    keys = [
        batch_key(ids, mask, targets),
        batch_key(ids, mask, torch.tensor([[-100, 3, 4]])),
        batch_key(ids, torch.tensor([[1.0, 1, 0]]), targets),
        batch_key(ids.flip(1), mask, targets),
        batch_key(ids.T, mask, targets),
    ]
    assert len(set(keys)) == len(keys)


def batch(windows: list[int], units: list[int]) -> WindowBatch:
    one = torch.ones(len(windows), 2, dtype=torch.int64)
    return WindowBatch(7, torch.tensor(windows), torch.tensor(units), one, one, one)


def journal(path: Path, subjects: dict[str, str], **outcomes: Outcome) -> Path:
    about = {"version": VERSION, "subjects": subjects, "settings": {}}
    measurement = Measurement(path, about)
    measurement.add(StepResult(3, outcomes, key_of("batch")))
    measurement.close()
    return path


def rows(*pairs: tuple[int, float]) -> Outcome:
    return Outcome(tally=Tally([WindowRow(w, w, 2, nll, 0.0, 2) for w, nll in pairs]))


def test_outcomes_are_found_by_key_and_numbered_anew(tmp_path: Path) -> None:
    path = journal(
        tmp_path / "1-0.steps",
        {"original": "o", "old": "x"},
        original=rows((5, 0.5), (3, 0.3)),
        old=rows((5, 1.5), (3, 1.3)),
    )
    recall = Recall([path])
    assert recall.batches == 1
    wanted = {"original": "o", "renamed": "x", "new": "y"}
    assert recall.find(key_of("another"), batch([9, 8], [1, 0]), wanted) == {}
    # The order of the windows is part of the key: the first had the higher number then as now.
    found = recall.find(key_of("batch"), batch([9, 8], [1, 0]), wanted)
    assert found.keys() == {"original", "renamed"}
    got = found["renamed"].tally.rows
    assert np.array_equal(got.window, [8, 9])
    assert np.array_equal(got.unit, [0, 1])
    assert np.array_equal(got.nll, [1.3, 1.5])


def test_what_speaks_of_its_batch_is_measured_again(tmp_path: Path) -> None:
    broken = rows((0, float("nan")))
    broken.notes.append("old: NaN or infinity, in batch 3.")
    path = journal(
        tmp_path / "1-0.steps", {"original": "o", "old": "x"}, original=rows((0, 1.0)), old=broken
    )
    found = Recall([path]).find(key_of("batch"), batch([0], [0]), {"original": "o", "old": "x"})
    assert found.keys() == {"original"}


@pytest.mark.parametrize("left", range(0, 400, 37))
def test_a_damaged_end_is_passed_over(left: int, tmp_path: Path) -> None:
    path = journal(tmp_path / "1-0.steps", {"original": "o"}, original=rows((0, 1.0)))
    path.write_bytes(path.read_bytes()[:-1][:left])
    assert Recall([path]).batches == 0
