"""What is each model's own, against edited copies of the weights in fp64."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from harness.outliers import TensorPatch
from harness.writing.sparse import EmbeddingRows, LinearRows, entries_of

INPUTS, OUTPUTS, COLUMNS = 24, 40, 7


def patch(module: nn.Module, name: str, entries: int, seed: int) -> TensorPatch:
    """Sets some entries of a parameter; the same ones in part, whatever the seed."""
    parameter = module.get_parameter(name).detach()
    size, generator = parameter.numel(), torch.Generator().manual_seed(seed)
    index = torch.randperm(size, generator=generator)[:entries]
    index = torch.cat([index, torch.arange(3)]).unique()
    new = torch.randn(len(index), generator=generator).to(parameter.dtype)
    return TensorPatch(name, tuple(parameter.shape), index, parameter.flatten()[index], new)


def copies(parameter: Tensor, changes: Sequence[TensorPatch | None]) -> Tensor:
    """The parameter as each model has it, in fp64."""
    made = parameter.detach().double().repeat(len(changes), *[1] * parameter.ndim)
    for own, change in zip(made, changes, strict=True):
        if change is not None:
            own.view(-1)[change.index] = change.new.double()
    return made


def left(parameter: Tensor, changes: Sequence[TensorPatch | None]) -> Tensor:
    """What all share: zeros wherever one was changed."""
    shared = parameter.detach().clone()
    for change in changes:
        if change is not None:
            shared.view(-1)[change.index] = 0
    return shared


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("entries", [5, 400], ids=["few", "many"])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_linear_layer_gives_each_model_what_an_edited_copy_would(
    transposed: bool, entries: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(entries)
    layer = nn.Linear(INPUTS, OUTPUTS).to(dtype)
    if transposed:
        layer.weight = nn.Parameter(layer.weight.detach().t().contiguous())
    weights = [None, patch(layer, "weight", entries, 1), patch(layer, "weight", entries // 2, 2)]
    biases = [patch(layer, "bias", 4, 3), None, patch(layer, "bias", 9, 4)]
    changes = [[p for p in pair if p is not None] for pair in zip(weights, biases, strict=True)]
    found = {each.name: each for each in entries_of(layer, changes).values()}
    rows = LinearRows(found["weight"], found["bias"], transposed)
    inputs = torch.randn(3, COLUMNS, INPUTS).to(dtype)

    def mapped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x @ (weight if transposed else weight.mT) + bias

    outputs = mapped(inputs, left(layer.weight, weights), left(layer.bias, biases))
    rows.add(inputs, outputs)
    own = copies(layer.weight, weights), copies(layer.bias, biases)[:, None]
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(
        outputs.double(), mapped(inputs.double(), *own), rtol=4 * step, atol=8 * step
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("entries", [1, 60, 900])
def test_an_embedding_gives_each_model_its_own_to_the_bit(entries: int, dtype: torch.dtype) -> None:
    torch.manual_seed(entries)
    layer = nn.Embedding(50, 24).to(dtype)
    changes = [patch(layer, "weight", entries, 1), None, patch(layer, "weight", entries, 2)]
    (found,) = entries_of(layer, [[p] if p is not None else [] for p in changes]).values()
    ids = torch.randint(0, 50, (3, COLUMNS))
    ids[:, 0] = 0  # a token that all have entries of
    outputs = left(layer.weight, changes)[ids]
    EmbeddingRows(found).add(ids, outputs)
    expected = torch.stack([w[i] for w, i in zip(copies(layer.weight, changes), ids, strict=True)])
    assert torch.equal(outputs.double(), expected)


def test_entries_are_those_of_all_models_and_say_what_each_has() -> None:
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).view(2, 3))

    def sets(index: list[int], new: list[float]) -> TensorPatch:
        place = torch.tensor(index, dtype=torch.int64)
        return TensorPatch("weight", (2, 3), place, place.float(), torch.tensor(new))

    changes = [[], [sets([1, 4], [10.0, 40.0])], [sets([0, 4], [-1.0, -4.0])], [sets([], [])]]
    (found,) = entries_of(layer, changes).values()
    assert found.index.tolist() == [0, 1, 4]
    assert found.values.tolist() == [[0, 1, 4], [0, 10, 40], [-1, 1, -4], [0, 1, 4]]
    assert found.whole(layer.weight, 2).tolist() == [[-1, 1, 2], [3, -4, 5]]
    assert found.left_out().new.tolist() == [0, 0, 0]


def test_a_transposed_parameter_in_memory_is_read_by_its_shape() -> None:
    layer = nn.Linear(INPUTS, OUTPUTS, bias=False)
    layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    assert not layer.weight.is_contiguous()
    change = patch(layer, "weight", 30, 1)
    (found,) = entries_of(layer, [[], [change]]).values()
    assert torch.equal(found.values[0], layer.weight.detach().flatten()[found.index])
    expected = copies(layer.weight, [None, change]).float()
    for number in (0, 1):
        assert torch.equal(found.whole(layer.weight, number), expected[number])
