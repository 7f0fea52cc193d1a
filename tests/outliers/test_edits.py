"""What edits and their controls do to values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.errors import ConfigError
from harness.outliers import (
    AbsoluteThreshold,
    Clip,
    Criterion,
    Edit,
    Epsilon,
    SigmaThreshold,
    TopFraction,
    Zero,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INDEX = torch.tensor([0, 2, 5])


def weight(dtype: torch.dtype) -> Tensor:
    return torch.tensor([[7.0, 1.0, -9.0], [-1.0, 0.5, math.inf]], dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Zero(), [0.0, 0.0, 0.0]),
        (Epsilon(0.25), [0.25, -0.25, 0.25]),
        (Clip(), [5.0, -5.0, 5.0]),
    ],
)
def test_new_values_are_those_of_the_edit(
    edit: Edit, expected: list[float], dtype: torch.dtype
) -> None:
    for tensor in (weight(dtype), weight(dtype).t().contiguous().t()):
        new = edit.replace(tensor, INDEX, AbsoluteThreshold(5.0))
        assert new.dtype == dtype
        assert new.tolist() == expected


def test_zero_is_positive() -> None:
    new = Zero().replace(weight(torch.float32), INDEX, AbsoluteThreshold())
    assert not new.signbit().any()


def test_epsilon_keeps_the_sign_of_zero() -> None:
    tensor = torch.tensor([-0.0, 0.0, -3.0])
    new = Epsilon().replace(tensor, torch.arange(3), AbsoluteThreshold())
    assert new.tolist() == pytest.approx([-1e-6, 1e-6, -1e-6])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [5.003, 0.1, 3.3333, 1e5])
def test_nothing_clipped_is_an_outlier_still(dtype: torch.dtype, threshold: float) -> None:
    tensor = torch.tensor([1e9, -1e9, 5.004, 0.2, -0.2, 0.01]).to(dtype)
    criterion = AbsoluteThreshold(threshold)
    index = criterion.select(tensor).nonzero()[:, 0]
    tensor[index] = Clip().replace(tensor, index, criterion)
    assert len(index)
    assert not criterion.select(tensor).any()
    assert tensor.isfinite().all()


def test_clip_goes_to_the_interval_of_the_criterion() -> None:
    tensor = torch.tensor([1.0, -1.0, 1.0, -1.0, 40.0])
    criterion = SigmaThreshold(1.5)
    new = Clip().replace(tensor, torch.tensor([4]), criterion)
    assert new.item() == pytest.approx(8.0 + 1.5 * tensor.double().std().item())
    tensor = torch.tensor([1.0, -2.0, 3.0, 40.0])
    new = Clip().replace(tensor, torch.tensor([3]), TopFraction(0.25))
    assert new.tolist() == [3.0]


@pytest.mark.parametrize("value", [0, -1e-6, math.nan, math.inf, True])
def test_epsilon_refuses_what_is_no_positive_number(value: float) -> None:
    with pytest.raises(ConfigError) as error:
        Epsilon(value)
    assert error.value.key == "value"


@pytest.mark.parametrize("dtype", DTYPES)
def test_controls_of_zero_and_epsilon_do_the_same(dtype: torch.dtype) -> None:
    values = torch.tensor([0.5, -0.25, math.nan], dtype=dtype)
    old, new = torch.ones(3, dtype=dtype), torch.ones(3, dtype=dtype)
    assert Zero().control(values, old, new).tolist() == [0.0, 0.0, 0.0]
    made = Epsilon(0.125).control(values[:2], old[:2], new[:2])
    assert made.dtype == dtype
    assert made.tolist() == [0.125, -0.125]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_control_of_clip_shrinks_by_the_same_ratios(dtype: torch.dtype) -> None:
    old = torch.tensor([8.0, -20.0, math.inf, 0.0, -0.0], dtype=dtype)
    new = torch.tensor([4.0, -5.0, 5.0, 1.0, 0.0], dtype=dtype)
    values = torch.tensor([0.5, -1.0, 2.0, 3.0, 4.0], dtype=dtype)
    made = Clip().control(values, old, new)
    assert made.dtype == dtype
    # The last two outliers were zero: no ratio says what to do.
    assert made.tolist() == [0.25, -0.25, 0.0, 3.0, 4.0]


class Double(Edit):
    """An edit of a user's own needs only `replace`."""

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        return torch.take(weight, index) * 2


def test_an_edit_of_ones_own_has_a_control() -> None:
    tensor = weight(torch.float32)
    new = Double().replace(tensor, INDEX[:2], AbsoluteThreshold())
    assert new.tolist() == [14.0, -18.0]
    made = Double().control(torch.tensor([0.5, 0.1]), torch.take(tensor, INDEX[:2]), new)
    assert made.tolist() == pytest.approx([1.0, 0.2])


class Halve(Edit):
    """An edit of somebody's own."""

    def __str__(self) -> str:
        return "Halve()"

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        return torch.take(weight, index) / 2


@pytest.mark.parametrize(
    ("edit", "verb"),
    [
        (Zero(), "zeroes"),
        (Epsilon(), "shrinks to ±1e-06"),
        (Clip(), "clips"),
        (Halve(), "edits by Halve()"),
    ],
)
def test_what_an_edit_does_in_words(edit: Edit, verb: str) -> None:
    assert edit.verb() == verb
