"""The smallest edit of every matrix, against few lines of another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from harness.outliers import unique_parameters
from harness.outliers.rounding import nudged
from tests.tiny import FAMILIES, tiny_model


@pytest.mark.parametrize("family", FAMILIES)
def test_some_entries_of_every_matrix_move_to_the_next_number(family: str) -> None:
    model = tiny_model(family)
    patch = nudged(model)
    matrices = {n: w for n, w in unique_parameters(model).items() if w.dim() >= 2}
    assert patch.names == tuple(matrices)  # tied ones once, and no norm or bias
    for tensor in patch.tensors:
        old = matrices[tensor.name].detach().flatten()[tensor.index]
        assert torch.equal(tensor.old, old)
        assert tensor.entries == -(-matrices[tensor.name].numel() // 64)
        up = np.arange(tensor.entries) % 2 == 0
        towards = np.where(up, np.inf, -np.inf).astype(np.float32)
        assert np.array_equal(tensor.new.numpy(), np.nextafter(old.numpy(), towards))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_step_is_one_of_the_data_type(dtype: torch.dtype) -> None:
    model = nn.Linear(400, 300, dtype=dtype)
    (tensor,) = nudged(model).tensors
    assert tensor.entries == 1024
    step = (tensor.new.double() - tensor.old.double()).abs() / tensor.old.double().abs()
    eps = torch.finfo(dtype).eps
    assert bool((step > 0).all())
    # Of normal numbers; between a power of two and the next steps are of one size.
    normal = tensor.old.abs() > torch.finfo(dtype).tiny
    assert bool((step[normal] <= eps).all())
    assert bool((step[normal] >= eps / 2.01).all())


def test_the_choice_depends_on_names_and_sizes_alone() -> None:
    one, other = (nudged(tiny_model("llama", seed=seed)) for seed in (0, 1))
    for mine, yours in zip(one.tensors, other.tensors, strict=True):
        assert torch.equal(mine.index, yours.index)
    indices = {tuple(tensor.index.tolist()) for tensor in one.tensors}
    assert len(indices) == len(one.tensors)


def test_what_lies_elsewhere_and_what_is_empty_is_left_out() -> None:
    model = nn.ModuleList([nn.Linear(4, 4, device="meta"), nn.LayerNorm(4)])
    model.register_parameter("none", nn.Parameter(torch.empty(0, 4)))
    assert nudged(model).entries == 0
