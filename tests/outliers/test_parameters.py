"""Parameters that share memory."""

from __future__ import annotations

import torch
from torch import nn

from harness.outliers.parameters import storage_key, tied_names, unique_parameters
from tests.outliers.models import UNIQUE, Awkward
from tests.tiny import tiny_model


def test_floating_point_parameters_come_once_in_the_order_of_the_model() -> None:
    model = Awkward()
    found = unique_parameters(model)
    assert list(found) == UNIQUE
    assert all(found[name] is model.get_parameter(name) for name in found)


def test_all_names_of_tied_parameters_are_known() -> None:
    assert tied_names(Awkward())["embedding"] == ["embedding", "head", "view"]


def test_a_tied_gpt2_head_is_the_embedding() -> None:
    model = tiny_model("gpt2")
    assert tied_names(model)["transformer.wte.weight"] == [
        "transformer.wte.weight",
        "lm_head.weight",
    ]
    assert "lm_head.weight" not in unique_parameters(model)


def test_without_memory_a_tensor_is_only_itself() -> None:
    with torch.device("meta"):
        first, second = nn.Parameter(torch.empty(3)), nn.Parameter(torch.empty(3))
    assert storage_key(first) != storage_key(second)
    assert storage_key(first) == storage_key(first)
    empty, other = torch.empty(0), torch.empty(0)
    assert storage_key(empty) != storage_key(other)


def test_views_that_differ_have_keys_that_differ() -> None:
    whole = torch.zeros(4, 4)
    views = [whole, whole.t().contiguous(), whole.T[:2], whole[1:], whole[:2], whole.view(2, 8)]
    assert len({storage_key(view) for view in views}) == len(views)
    assert storage_key(whole) == storage_key(whole.view(4, 4))
