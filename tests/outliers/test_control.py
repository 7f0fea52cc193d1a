"""Random controls against their generator in plain integers."""

from __future__ import annotations

import itertools
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
from harness.outliers.control import Shared
from tests.outliers.models import Awkward, image, weights

MASK = 2**64 - 1


def first(model: nn.Module, name: str, count: int) -> TensorPatch:
    """The first entries of a parameter set to zero."""
    values = model.get_parameter(name).detach()
    old = values.flatten()[:count].clone()
    return TensorPatch(name, tuple(values.shape), torch.arange(count), old, torch.zeros(count))


def philox(counter: int, key: int) -> list[int]:
    """One block of Philox 4x64-10 in Python's integers."""
    words, keys = [counter, 0, 0, 0], [key, 0]
    for _ in range(10):
        low, high = words[0] * 0xD2E7470EE14C6C93, words[2] * 0xCA5A826395121157
        words = [
            *((high >> 64) ^ words[1] ^ keys[0], high & MASK),
            *((low >> 64) ^ words[3] ^ keys[1], low & MASK),
        ]
        weyl = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
        keys = [(key + step) & MASK for key, step in zip(keys, weyl, strict=True)]
    return words


def draw(count: int, size: int, key: int) -> list[int]:
    """Draws one by one, those left out where they are fewer."""
    if 2 * count > size:
        return sorted(set(range(size)) - set(draw(size - count, size, key)))
    chosen: dict[int, None] = {}
    outputs = (word for counter in itertools.count(1) for word in philox(counter, key))
    while len(chosen) < count:
        chosen[next(outputs) % size] = None
    return sorted(chosen)


def test_the_generator_in_integers_gives_the_numbers_that_its_authors_publish() -> None:
    # Of the file kat_vectors of Random123.
    expected = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox(0, 0) == expected


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


def test_the_first_numbers_of_a_key() -> None:
    # Written down once: a change of the choice would change every published control.
    assert module.draw(5, 1000, 42).tolist() == [267, 406, 529, 875, 910]


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
    alone = matched_control(patch.within(["second"]), model, 3, 1)
    assert alone.tensors[0].index.tolist() == first[1]
    assert first[0][:4] == [47, 101, 120, 193]


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
        assert Shared.by_chance(tensor) == (tensor.name, tensor.entries, expected)


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
