"""Patches come, and go without a trace."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from harness.errors import ConfigError
from harness.outliers import (
    AbsoluteThreshold,
    Clip,
    Criterion,
    Edit,
    Epsilon,
    Patch,
    Scope,
    SigmaThreshold,
    TensorPatch,
    TopFraction,
    Zero,
    make_patch,
)
from harness.outliers import patch as module
from tests.outliers.models import UNIQUE, Awkward, image, weights
from tests.tiny import FAMILIES, tiny_model

NAN_BITS = {
    torch.float32: (torch.int32, 0x7FC12345),
    torch.float16: (torch.int16, 0x7E2A),
    torch.bfloat16: (torch.int16, 0x7FD3),
    torch.float64: (torch.int64, 0x7FF8DEADBEEF1234),
}


def zeroed(model: nn.Module, threshold: float = 1.0, edit: Edit | None = None) -> Patch:
    return make_patch(Scope().select(model), AbsoluteThreshold(threshold), edit or Zero())


def whole(name: str, tensor: Tensor, new: Tensor) -> TensorPatch:
    """A patch of every entry of a tensor."""
    old = tensor.detach().flatten().clone()
    return TensorPatch(name, tuple(tensor.shape), torch.arange(old.numel()), old, new.flatten())


@pytest.mark.parametrize("edit", [Zero(), Epsilon(), Clip()], ids=str)
@pytest.mark.parametrize(
    "criterion", [AbsoluteThreshold(1.0), SigmaThreshold(1.0), TopFraction(0.2)], ids=str
)
def test_a_patch_edits_exactly_what_was_selected(criterion: Criterion, edit: Edit) -> None:
    model = Awkward()
    before = image(model)
    expected: dict[str, list[float]] = {}
    for name in UNIQUE:
        tensor = model.get_parameter(name).detach()
        mask = criterion.select(tensor).flatten()
        dense = tensor.flatten().clone()
        if mask.any():
            dense[mask] = edit.replace(tensor, mask.nonzero()[:, 0], criterion)
        expected[name] = dense.tolist()
    patch = make_patch(Scope().select(model), criterion, edit)
    assert image(model) == before
    with patch.applied(model):
        for name in UNIQUE:
            assert model.get_parameter(name).detach().flatten().tolist() == expected[name]
        assert image(model) != before
    assert image(model) == before


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_real_models_come_back_bit_for_bit(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family, dtype=dtype)
    before = image(model)
    patch = make_patch(Scope().select(model), SigmaThreshold(2.0), Zero())
    assert patch.entries > 100
    with patch.applied(model):
        assert image(model) != before
    assert image(model) == before


def test_tied_parameters_are_edited_once() -> None:
    model = Awkward()
    patch = zeroed(model, 0.5)
    assert patch.names[0] == "embedding"
    assert not {"head", "view"} & set(patch.names)
    with patch.applied(model):
        assert torch.equal(model.view, model.head)
        assert model.view.abs().max() <= 0.5


def test_separate_objects_that_share_storage_are_edited_once() -> None:
    model = tiny_model("gpt2")
    model.lm_head.weight = nn.Parameter(model.transformer.wte.weight.data)
    assert model.lm_head.weight is not model.transformer.wte.weight
    patch = zeroed(model, 0.5)
    assert "transformer.wte.weight" in patch.names
    assert "lm_head.weight" not in patch.names
    expected = int((model.lm_head.weight.abs() > 0.5).sum())
    assert patch.within(["transformer.wte.weight"]).entries == expected


@pytest.mark.parametrize("dtype", NAN_BITS)
def test_nan_payloads_and_negative_zeros_survive(dtype: torch.dtype) -> None:
    integers, pattern = NAN_BITS[dtype]
    values = torch.tensor([-0.0, 0.0, 9.0, -9.0], dtype=dtype)
    values[1] = torch.tensor(pattern, dtype=integers).view(dtype)
    model = weights(matrix=values.repeat(3, 1).t())
    before = image(model)
    patch = Patch((whole("matrix", model.matrix, torch.full((12,), 2.0, dtype=dtype)),))
    with patch.applied(model):
        assert model.matrix.tolist() == [[2.0] * 3] * 4
    assert image(model) == before
    back = Patch((whole("matrix", torch.zeros(4, 3, dtype=dtype), model.matrix.detach()),))
    with torch.no_grad():
        model.matrix.zero_()
    with back.applied(model):
        assert image(model) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_weights_come_back_after_an_error(error: type[BaseException]) -> None:
    model = Awkward()
    before = image(model)

    def run() -> None:
        with zeroed(model).applied(model):
            assert image(model) != before
            raise error

    with pytest.raises(error):
        run()
    assert image(model) == before


@pytest.mark.parametrize("part", ["missing", "shape", "dtype"])
def test_a_patch_of_another_model_changes_nothing(part: str) -> None:
    model = weights(first=torch.ones(4), second=torch.ones(4))
    before = image(model)
    patch = zeroed(model, 0.5)
    if part == "missing":
        del model.second
        before.pop("second")
    else:
        model.second = nn.Parameter(torch.ones(5) if part == "shape" else torch.ones(4).half())
        before = image(model)
    with pytest.raises(ConfigError, match="second"), patch.applied(model):
        pytest.fail("the block must not be entered")
    assert image(model) == before


def test_an_error_half_way_through_undoes_the_first_half(monkeypatch: pytest.MonkeyPatch) -> None:
    model = weights(first=torch.ones(4), second=torch.ones(4))
    before = image(model)
    patch = zeroed(model, 0.5)
    memory = module.memory
    edited: list[int] = []

    def failing(tensor: Tensor) -> Tensor:
        if tensor is model.second:
            edited.append(int((model.first == 0).sum()))
            raise MemoryError
        return memory(tensor)

    monkeypatch.setattr(module, "memory", failing)
    with pytest.raises(MemoryError), patch.applied(model):
        pytest.fail("the block must not be entered")
    assert edited == [4]
    assert image(model) == before


def test_an_interruption_while_restoring_waits_until_all_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = weights(first=torch.ones(4), second=torch.ones(4), third=torch.ones(4))
    before = image(model)
    memory = module.memory
    restored: list[Tensor] = []

    def interrupted(tensor: Tensor) -> Tensor:
        restored.append(tensor)
        if len(restored) == 2:
            raise KeyboardInterrupt
        return memory(tensor)

    def run() -> None:
        with zeroed(model, 0.5).applied(model):
            monkeypatch.setattr(module, "memory", interrupted)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [id(t) for t in restored] == [
        id(t) for t in (model.third, model.second, model.second, model.first)
    ]
    assert image(model) == before


def test_patches_can_be_nested_and_overlap() -> None:
    model = Awkward()
    before = image(model)
    outer, inner = zeroed(model, 1.0), zeroed(model, 0.5, Epsilon(0.25))
    with outer.applied(model):
        between = image(model)
        with inner.applied(model):
            assert image(model) not in (before, between)
        assert image(model) == between
        with outer.applied(model):
            assert image(model) == between
        assert image(model) == between
    assert image(model) == before


def test_what_is_restored_is_what_was_there_not_what_the_patch_remembers() -> None:
    model = weights(matrix=torch.full((3,), 7.0))
    patch = zeroed(model)
    with torch.no_grad():
        model.matrix.fill_(3.0)
    with patch.applied(model):
        assert model.matrix.tolist() == [0.0] * 3
    assert model.matrix.tolist() == [3.0] * 3


def test_an_empty_patch_changes_nothing() -> None:
    model = Awkward()
    before = image(model)
    empty = TensorPatch("gone", (4,), torch.arange(0), torch.empty(0), torch.empty(0))
    assert zeroed(model, 1e6).tensors == ()
    with Patch().applied(model), Patch(()).applied(model), zeroed(model, 1e6).applied(model):
        assert image(model) == before
    assert Patch().entries == Patch((empty,)).entries == 0
    assert Patch().names == ()
    with Patch((TensorPatch("empty", (0, 4), empty.index, empty.old, empty.new),)).applied(model):
        assert image(model) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, nullcontext])
@pytest.mark.parametrize("exit_mode", [torch.no_grad, torch.inference_mode, nullcontext])
def test_gradient_modes_do_not_matter(
    mode: Callable[[], torch.no_grad], exit_mode: Callable[[], torch.no_grad]
) -> None:
    model = Awkward()
    before = image(model)
    patch = zeroed(model)
    with mode(), patch.applied(model):
        inside = image(model)
    with exit_mode(), patch.applied(model):
        assert image(model) == inside
    context = patch.applied(model)
    with mode():
        context.__enter__()
    with exit_mode():
        context.__exit__(None, None, None)
    assert image(model) == before


def test_models_loaded_in_inference_mode_can_be_patched() -> None:
    with torch.inference_mode():
        model = Awkward()
    before = image(model)
    with zeroed(model).applied(model):
        assert image(model) != before
    assert image(model) == before


def test_gradients_of_a_patched_model_are_not_those_of_the_original() -> None:
    model = weights(matrix=torch.tensor([2.0, 0.5]))
    patch = zeroed(model)
    with patch.applied(model):
        model.matrix.square().sum().backward()
    assert model.matrix.grad.tolist() == [0.0, 1.0]
    with patch.applied(model):
        loss = model.matrix.square().sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_nothing_is_moved_or_computed_again_when_a_patch_is_applied_again() -> None:
    model = Awkward()
    patch = zeroed(model)
    with patch.applied(model):
        first = [tensor.placed(model.get_parameter(tensor.name)) for tensor in patch.tensors]
    with patch.within(patch.names).applied(model):
        again = [tensor.placed(model.get_parameter(tensor.name)) for tensor in patch.tensors]
    assert all(a is b for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))


def test_a_parameter_that_moves_in_memory_is_found_again() -> None:
    model = weights(matrix=torch.arange(12.0).reshape(3, 4))
    patch = make_patch(Scope().select(model), AbsoluteThreshold(8.0), Zero())
    with patch.applied(model):
        pass
    model.matrix.data = model.matrix.data.t().contiguous().t()
    with patch.applied(model):
        assert model.matrix.flatten().tolist() == [*range(9), 0.0, 0.0, 0.0]
    assert model.matrix.flatten().tolist() == list(range(12))


def test_an_entry_counts_as_edited_because_it_was_selected() -> None:
    model = weights(matrix=torch.zeros(10))
    patch = make_patch(Scope().select(model), TopFraction(0.3), Zero())
    assert patch.entries == 3
    assert patch.tensors[0].index.tolist() == [0, 1, 2]


def test_parts_of_a_patch() -> None:
    model = Awkward()
    patch = zeroed(model)
    part = patch.within(["bias", "unknown", "low"])
    assert part.names == ("bias", "low")
    assert part.entries == sum(t.entries for t in patch.tensors if t.name in ("bias", "low"))
    assert patch.within([]).tensors == ()


def test_positions_are_row_major_and_values_are_those_at_them() -> None:
    model = Awkward()
    for tensor in zeroed(model).tensors:
        flat = model.get_parameter(tensor.name).detach().flatten()
        assert tensor.index.tolist() == (flat.abs() > 1).nonzero()[:, 0].tolist()
        assert torch.equal(flat[tensor.index], tensor.old)
        assert tensor.shape == tuple(model.get_parameter(tensor.name).shape)


@pytest.mark.parametrize(
    "index", [[1, 0], [0, 0], [-1, 0], [0, 6], [[0, 1]], [0], [0.0, 1.0]], ids=str
)
def test_positions_that_cannot_be_are_refused(index: list[object]) -> None:
    values = torch.zeros(2)
    with pytest.raises(ValueError, match="matrix"):
        TensorPatch("matrix", (2, 3), torch.tensor(index), values, values)


def test_values_that_do_not_fit_are_refused() -> None:
    index = torch.arange(2)
    with pytest.raises(ValueError, match="data type"):
        TensorPatch("matrix", (2, 3), index, torch.zeros(2), torch.zeros(2).half())
    with pytest.raises(ValueError, match="as many"):
        TensorPatch("matrix", (2, 3), index, torch.zeros(2), torch.zeros(3))
    tensor = TensorPatch("matrix", (2, 3), index, torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match="once"):
        Patch((tensor, tensor))


class Careless(Criterion):
    def select(self, weight: Tensor) -> Tensor:
        return weight.abs()


class Wide(Edit):
    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        return torch.zeros(len(index), dtype=torch.float64)


def test_a_criterion_or_edit_of_ones_own_that_errs_is_named() -> None:
    parameters = Scope().select(weights(matrix=torch.ones(3)))
    with pytest.raises(TypeError, match=r"Careless.*matrix"):
        make_patch(parameters, Careless(), Zero())
    with pytest.raises(TypeError, match=r"Wide.*matrix"):
        make_patch(parameters, AbsoluteThreshold(0.5), Wide())


def test_offloaded_weights_are_refused() -> None:
    model = weights(matrix=torch.ones(3, device="meta"))
    with pytest.raises(ConfigError, match="offloaded"):
        zeroed(model)


def test_two_values_are_two_values() -> None:
    """The image that these tests compare tells -0.0 from 0.0."""
    assert image(weights(a=torch.tensor([-0.0])))["a"] == struct.pack("<f", -0.0)
