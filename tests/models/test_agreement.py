"""What counts as the same logits, in examples of either kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.models.agreement import logits_agree, same_but_for_rounding

FLOATS = [torch.float32, torch.bfloat16, torch.float16]


def logits(dtype: torch.dtype = torch.float32) -> Tensor:
    return (3 * torch.randn(5, 400, generator=torch.Generator().manual_seed(0))).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_rounding_is_forgiven(dtype: torch.dtype) -> None:
    exact = logits(dtype)
    rounded = exact * (1 + torch.finfo(dtype).eps)
    assert not torch.equal(exact, rounded)
    assert logits_agree(exact, rounded, epsilons=2)  # one, and what the product is rounded to
    assert not logits_agree(exact, exact * (1 + max(1e-3, 9 * torch.finfo(dtype).eps)), epsilons=2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_more_can_be_forgiven(dtype: torch.dtype) -> None:
    exact = logits(dtype)
    far = exact + max(5e-4, 6 * torch.finfo(dtype).eps)
    assert not logits_agree(exact, far, epsilons=1)
    assert logits_agree(exact, far, epsilons=16) is (dtype != torch.float32)


@pytest.mark.parametrize("difference", [0.01, 0.1])
def test_one_logit_is_enough(difference: float) -> None:
    other = logits()
    other[3, 17] += difference
    assert not logits_agree(logits(), other, epsilons=4)


@pytest.mark.parametrize("offset", [300.0, -300.0])
def test_an_offset_of_all_hides_nothing(offset: float) -> None:
    assert logits_agree(logits() + offset, logits() + offset, epsilons=4)
    assert not logits_agree(logits() + offset, logits() * 1.001 + offset, epsilons=4)


@pytest.mark.parametrize("value", [-1e9, torch.finfo(torch.float32).min, -torch.inf])
@pytest.mark.parametrize("masked", [150, 390])
def test_a_masked_vocabulary_hides_nothing_and_forbids_nothing(value: float, masked: int) -> None:
    one, near, far = logits(), logits() + 5e-5, logits() * 1.001
    for each in (one, near, far):
        each[:, :masked] = value
    assert logits_agree(one, one.clone(), epsilons=4)
    assert logits_agree(one, near, epsilons=4)
    assert not logits_agree(one, far, epsilons=4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_has_to_be_the_same(value: float) -> None:
    one = logits()
    one[2, 2] = value
    assert logits_agree(one, one.clone(), epsilons=4)
    assert not logits_agree(one, logits(), epsilons=4)
    assert not logits_agree(logits(), one, epsilons=4)
    assert logits_agree(torch.full_like(one, value), torch.full_like(one, value), epsilons=4)


def test_equal_logits_spread_nowhere() -> None:
    ones = torch.ones(3, 4)
    assert logits_agree(ones, ones, epsilons=1)
    assert not logits_agree(ones, ones + 1e-3, epsilons=1)


class Deep(nn.Module):
    """Layers that blow rounding up; in two halves the same sums are made in another order."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.ParameterList(
            nn.Parameter((torch.randn(128, 128, generator=generator) / 7).to(dtype))
            for _ in range(12)
        )

    def forward(self, x: Tensor, halves: bool = False) -> Tensor:
        for layer in self.layers:
            one, other = x[:, :64] @ layer[:64], x[:, 64:] @ layer[64:]
            x = (one + other if halves else x @ layer).tanh()
        return x


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@torch.inference_mode()
def test_what_a_deep_model_rounds_to_by_itself_is_forgiven(dtype: torch.dtype) -> None:
    model = Deep(dtype)
    weights = [layer.clone() for layer in model.layers]
    x = logits(dtype)[:, :128]
    expected, found = model(x), model(x, halves=True)
    if dtype != torch.float32:  # where 1e-4 is more than rounding
        assert not logits_agree(expected, found, epsilons=4)
    assert same_but_for_rounding(model, expected, found, lambda: model(x), epsilons=1)
    changed = x.clone()
    changed[:, 0] += 1
    other = model(changed)
    for make in (lambda: model(x), lambda: model(changed)):
        assert not same_but_for_rounding(model, expected, other, make, epsilons=1)
    assert all(map(torch.equal, weights, model.layers))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@torch.inference_mode()
def test_what_is_not_finite_is_no_rounding(value: float) -> None:
    model = Deep(torch.bfloat16)
    x = logits(torch.bfloat16)[:, :128]
    expected = model(x)
    found = expected.clone()
    found[0, 0] = value
    for one, other in ((expected, found), (found, expected)):
        assert not same_but_for_rounding(model, one, other, lambda: found, epsilons=1)
