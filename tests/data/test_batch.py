"""Batches against tensors written by hand."""

from __future__ import annotations

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from harness.data.batch import WindowBatch, WindowRows
from harness.data.plan import SENTINEL
from harness.data.windows import Window


@pytest.fixture
def rows() -> WindowRows:
    tokens = [torch.tensor([10, 11, 12, 13], dtype=torch.int32), torch.tensor([20, 21])]
    windows = [
        Window(0, 0, 4, 2, bos=False),
        Window(1, 0, 2, 2, bos=True),
        Window(1, 0, 2, 1, bos=False),
    ]
    return WindowRows(tokens, windows, [0, 1, 1], bos_id=9, pad_id=5)


def test_tensors_by_hand(rows):
    batch = rows[(4, [0, 1, 2])]
    assert batch.number == 4
    assert batch.windows.tolist() == [0, 1, 2]
    assert batch.units.tolist() == [0, 1, 1]
    assert batch.input_ids.tolist() == [[10, 11, 12], [9, 20, 5], [20, 5, 5]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert batch.targets.tolist() == [[-100, 12, 13], [20, 21, -100], [21, -100, -100]]
    tensors = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    assert {tensor.dtype for tensor in tensors} == {torch.int64}


def test_a_sentinel_can_be_run_and_counts_for_nothing(rows):
    batch = rows[(SENTINEL, [])]
    assert batch.number == SENTINEL
    assert batch.input_ids.shape == batch.targets.shape == (1, 1)
    assert batch.attention_mask.tolist() == [[1]]
    assert batch.targets.tolist() == [[-100]]
    assert batch.windows.tolist() == batch.units.tolist() == [-1]


def test_survives_the_move_to_a_device(rows):
    batch = rows[(4, [1, 0])]
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, WindowBatch)
    assert moved.number == 4
    assert moved.input_ids.device.type == moved.attention_mask.device.type == "meta"
    # What the model does not see is read on the host.
    assert {each.device.type for each in (moved.windows, moved.units, moved.targets)} == {"cpu"}
    assert batch.input_ids.device.type == "cpu"
