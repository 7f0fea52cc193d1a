"""Sums of a tensor against exact fractions, and in whatever pieces they are made."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from harness.outliers import pieces, spread

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def heavy(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(0)) ** 3).to(dtype)


def exactly(tensor: Tensor) -> tuple[float, float]:
    """Mean and deviation in fractions, rounded at the end."""
    values = [Fraction(value) for value in tensor.double().flatten().tolist()]
    mean = sum(values, Fraction()) / len(values)
    variance = sum(((value - mean) ** 2 for value in values), Fraction()) / (len(values) - 1)
    return float(mean), math.sqrt(variance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [2, 3, 255, 256, 257, 5000])
def test_mean_and_deviation_are_those_of_fractions(size: int, dtype: torch.dtype) -> None:
    for tensor in (heavy(size, dtype=dtype), heavy(size, dtype=dtype) + 100):
        found, expected = spread.mean_and_std(tensor), exactly(tensor)
        assert found[0] == pytest.approx(expected[0], rel=1e-15, abs=1e-15 * expected[1])
        assert found[1] == pytest.approx(expected[1], rel=1e-14)


@pytest.mark.parametrize("rows", [1, 700, 1500])
def test_pieces_threads_and_layout_change_no_bit(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = heavy(rows, 421)
    expected = spread.mean_and_std(tensor)
    assert spread.mean_and_std(tensor.t().contiguous().t()) == expected
    torch.set_num_threads(2)
    assert spread.mean_and_std(tensor) == expected
    for piece in (1000, 2**18 - 1, 2**19, 2**24):
        monkeypatch.setattr(pieces, "PIECE", piece)
        assert spread.mean_and_std(tensor) == expected
        assert spread.mean_and_std(tensor.t().contiguous().t()) == expected


def test_what_is_left_out_is_as_if_it_were_zero_before_the_mean() -> None:
    tensor = heavy(700, 421)
    tensor[::7, ::5], tensor[3, 4], tensor[9, 9] = math.nan, math.inf, -math.inf
    values = tensor[tensor.isfinite()].double()
    found = spread.mean_and_std(tensor)
    assert found == pytest.approx((values.mean().item(), values.std().item()), rel=1e-12)


def test_numbers_whose_squares_are_none_have_no_deviation() -> None:
    assert all(map(math.isnan, spread.mean_and_std(torch.tensor([1e200, -1e200]).double())))


def test_what_is_remembered_is_asked_once_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        spread, "_mean_and_std", lambda t: asked.append(len(t)) or (float(len(t)), 1.0)
    )
    first, second = torch.ones(3), torch.ones(4)
    with spread.remembered():
        for _ in range(2):
            with spread.remembered():
                assert spread.mean_and_std(first) == (3.0, 1.0)
            assert spread.mean_and_std(second) == (4.0, 1.0)
        assert asked == [3, 4]
        # Of what is gone nothing is known, though another tensor may have its number.
        for size in range(5, 50):
            assert spread.mean_and_std(torch.ones(size)) == (float(size), 1.0)
    assert spread.mean_and_std(first) == (3.0, 1.0)
    assert asked[-1] == 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_range_is_that_of_finite_entries(dtype: torch.dtype) -> None:
    tensor = heavy(60, 70, dtype=dtype)
    tensor[0, 0], tensor[1, 1], tensor[2, 2] = math.nan, math.inf, -math.inf
    values = [value for value in tensor.flatten().tolist() if math.isfinite(value)]
    assert spread.finite_range(tensor) == (min(values), max(values))
    where = torch.arange(4200).view(60, 70) % 3 == 0
    chosen = [value for value in tensor[where].tolist() if math.isfinite(value)]
    assert spread.finite_range(tensor, where) == (min(chosen), max(chosen))
    assert spread.finite_range(tensor, torch.zeros_like(where)) is None
