"""Random controls against the generator in plain integers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from harness.errors import ConfigError
from harness.outliers import (
    AbsoluteThreshold,
    Clip,
    Epsilon,
    Patch,
    Scope,
    TensorPatch,
    TopFraction,
    Zero,
    make_patch,
    matched_control,
)
from harness.outliers import control as module
from harness.outliers.control import shared_by_chance
from tests.outliers.models import Awkward, image, weights

VECTORS = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
MASK = 2**64 - 1


def first(model: nn.Module, name: str, count: int) -> TensorPatch:
    """The first entries of a parameter set to zero."""
    values = model.get_parameter(name).detach()
    old = values.flatten()[:count].clone()
    return TensorPatch(name, tuple(values.shape), torch.arange(count), old, torch.zeros(count))


def splitmix64(state: int, count: int) -> list[int]:
    """The generator in Python's integers."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


def draw(count: int, size: int, key: int) -> list[int]:
    """Draws one by one, those left out where they are fewer."""
    if 2 * count > size:
        return sorted(set(range(size)) - set(draw(size - count, size, key)))
    chosen: dict[int, None] = {}
    outputs = iter(splitmix64(key, 100 * count + 1000))
    while len(chosen) < count:
        chosen[next(outputs) % size] = None
    return sorted(chosen)


def unsigned(values: torch.Tensor) -> list[int]:
    return [value & MASK for value in values.tolist()]


def test_known_outputs() -> None:
    assert unsigned(module.splitmix64(1234567, 5)) == VECTORS
    assert splitmix64(1234567, 5) == VECTORS


@pytest.mark.parametrize("key", [0, 1, 2**63 - 1, 2**63, 2**64 - 1, 0xDEADBEEFCAFEBABE])
def test_outputs_are_those_of_the_generator_in_integers(key: int) -> None:
    assert unsigned(module.splitmix64(key, 300)) == splitmix64(key, 300)


@pytest.mark.parametrize("key", [0, 7, 2**63, 2**64 - 3])
@pytest.mark.parametrize(
    ("count", "size"),
    [
        (0, 5), (1, 1), (1, 2), (2, 2), (5, 10), (6, 10), (9, 10), (10, 10), (50, 1000),
        (500, 1000), (501, 1000), (3, 2**31 + 11), (40, 10**12), (999, 3000), (40, 2**62 + 3),
    ],
)  # fmt: skip
def test_draws_are_those_made_one_by_one(count: int, size: int, key: int) -> None:
    assert module.draw(count, size, key).tolist() == draw(count, size, key)


def test_draws_go_on_until_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    outputs = module.splitmix64

    def short(key: int, count: int) -> torch.Tensor:
        lengths.append(count)
        # Few distinct numbers at first, as an unlucky stream would have.
        return outputs(key, count) % 3 if len(lengths) == 1 else outputs(key, count)

    monkeypatch.setattr(module, "splitmix64", short)
    assert module.draw(100, 1000, 3).tolist() == draw(100, 1000, 3)
    assert lengths == [166, 332]


def test_every_entry_is_drawn_equally_often() -> None:
    for count in (3, 17):
        seen = Counter(i for key in range(1000) for i in module.draw(count, 20, key).tolist())
        assert chisquare([seen[i] for i in range(20)]).pvalue > 1e-3
    pairs = Counter(tuple(module.draw(2, 6, key).tolist()) for key in range(2000))
    assert len(pairs) == 15
    assert chisquare(list(pairs.values())).pvalue > 1e-3


def test_draws_of_a_large_tensor_are_uniform() -> None:
    positions = module.draw(200_000, 300_000_000, 42)
    assert chisquare(torch.histc(positions.double(), 100, 0, 300_000_000).tolist()).pvalue > 1e-3


def patched(model: nn.Module) -> Patch:
    return make_patch(Scope().select(model), AbsoluteThreshold(1.0), Zero())


def test_a_control_has_as_many_entries_in_the_same_tensors() -> None:
    model = Awkward()
    patch = patched(model)
    for number in range(5):
        control = matched_control(patch, model, 0, number)
        assert control.names == patch.names
        for of, made in zip(patch.tensors, control.tensors, strict=True):
            assert made.entries == of.entries
            assert made.shape == of.shape
            flat = model.get_parameter(of.name).detach().flatten()
            assert torch.equal(made.old, flat[made.index])
            assert not made.new.any()


def test_seed_number_and_name_decide_and_nothing_else() -> None:
    big = torch.arange(1.0, 5001.0)
    model = weights(first=big.clone(), second=big.clone())
    patch = make_patch(Scope().select(model), TopFraction(0.01), Zero())

    def drawn(seed: int, number: int) -> list[list[int]]:
        return [t.index.tolist() for t in matched_control(patch, model, seed, number).tensors]

    torch.manual_seed(1)
    first = drawn(3, 1)
    torch.manual_seed(2)
    torch.set_num_threads(2)
    assert drawn(3, 1) == first
    torch.set_num_threads(1)
    others = [drawn(3, 2), drawn(4, 1), drawn(1, 3), drawn(31, 0), drawn(-3, 1)]
    everything = [tuple(index) for pair in [first, *others] for index in pair]
    assert len(set(everything)) == len(everything)
    alone = matched_control(patch.only(["second"]), model, 3, 1)
    assert alone.tensors[0].index.tolist() == first[1]
    # Written down once: a change of the choice would change every published control.
    assert first[0][:4] == [101, 150, 187, 421]


def test_the_choice_does_not_depend_on_the_data_type_or_layout() -> None:
    wide = weights(matrix=torch.arange(600.0).reshape(20, 30))
    narrow = weights(matrix=wide.matrix.detach().bfloat16().t().contiguous().t())
    index = torch.arange(25)
    controls = []
    for model in (wide, narrow):
        values = torch.ones(25, dtype=model.matrix.dtype)
        patch = Patch((TensorPatch("matrix", (20, 30), index, values, values),))
        controls.append(matched_control(patch, model, 0, 0).tensors[0])
    assert torch.equal(controls[0].index, controls[1].index)
    assert torch.equal(controls[0].old.bfloat16(), controls[1].old)


def test_most_of_a_tensor_and_all_of_it() -> None:
    model = weights(matrix=torch.arange(1.0, 101.0))
    for fraction in (0.5, 0.51, 0.99, 1.0):
        patch = make_patch(Scope().select(model), TopFraction(fraction), Zero())
        control = matched_control(patch, model, 0, 0)
        assert control.entries == patch.entries == round(100 * fraction)


def test_how_much_a_control_shares_by_chance() -> None:
    model = nn.ModuleDict({"much": nn.Linear(40, 50, bias=False), "little": nn.Linear(90, 70)})
    rows = {"much.weight": 900, "little.weight": 100, "little.bias": 70}
    patch = Patch(tuple(first(model, name, count) for name, count in rows.items()))
    drawn = [matched_control(patch, model, 0, number) for number in range(200)]
    own = {t.name: set(t.index.tolist()) for t in patch.tensors}
    for tensor in patch.tensors:
        shared = [
            len(own[tensor.name] & set(t.index.tolist()))
            for control in drawn
            for t in control.tensors
            if t.name == tensor.name
        ]
        expected = pytest.approx(sum(shared) / len(shared), rel=0.01, abs=0.2)
        assert shared_by_chance(tensor) == expected


def test_what_a_control_does_is_what_the_edit_says() -> None:
    model = weights(matrix=torch.cat([torch.full((5,), 0.5), torch.tensor([8.0])]))
    parameters = Scope().select(model)
    zero = make_patch(parameters, AbsoluteThreshold(2.0), Zero())
    clip = make_patch(parameters, AbsoluteThreshold(2.0), Clip())
    epsilon = make_patch(parameters, AbsoluteThreshold(2.0), Epsilon(0.125))
    for number in range(4):
        index = matched_control(zero, model, 0, number).tensors[0].index
        value = model.matrix[index].item()
        results = [
            matched_control(patch, model, 0, number, edit).tensors[0].new.item()
            for patch, edit in ((zero, Zero()), (clip, Clip()), (epsilon, Epsilon(0.125)))
        ]
        assert results == [0.0, value * 0.25, 0.125]
        # Of a saved patch the edit is not known.
        assert matched_control(clip, model, 0, number).tensors[0].new.item() == value * 0.25


def test_a_control_comes_and_goes_like_any_patch() -> None:
    model = Awkward()
    before = image(model)
    control = matched_control(patched(model), model, 0, 0)
    with control.applied(model):
        assert image(model) != before
    assert image(model) == before


def test_nothing_has_nothing_for_its_control() -> None:
    assert matched_control(Patch(), Awkward(), 0, 0).tensors == ()


def test_a_patch_of_another_model_has_no_control() -> None:
    with pytest.raises(ConfigError, match="no such parameter"):
        matched_control(patched(Awkward()), weights(other=torch.ones(3)), 0, 0)
