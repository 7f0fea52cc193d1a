"""Massive activations against the definition, with the median found by sorting in fp64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.probes import Massive

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def naive(text: Tensor, massive: Massive) -> np.ndarray:
    """Owen et al.: |h| > absolute and |h| > ratio * median, the lower one of an even number."""
    magnitudes = np.abs(text.double().numpy())
    median = np.sort(magnitudes.flatten())[(magnitudes.size - 1) // 2]
    return (magnitudes > massive.absolute) & (magnitudes > massive.ratio * median)


def check(text: Tensor, massive: Massive) -> int:
    flags = naive(text, massive)
    bound = massive.bound(text)
    magnitudes = text.double().abs().numpy()
    assert (bound is None) == (not flags.any())
    if bound is not None:
        assert np.array_equal(magnitudes >= bound, flags)
        assert bound == magnitudes[flags].min()
    return int(flags.sum())


def hidden(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(5, 7), (6, 8), (40, 333), (1, 9)])
def test_a_few_of_many(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    text = (hidden(*shape) / 10).to(dtype)
    text[0, 3], text[0, 5], text[-1, -2] = 2000.0, -500.0, 90.0
    assert check(text, Massive()) == 2
    assert check(text, Massive(80.0, 100.0)) == 3


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ratio", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("absolute", [0.1, 1.0, 2.0])
def test_any_threshold(dtype: torch.dtype, ratio: float, absolute: float) -> None:
    # Multiples of 1/8, so that many are equal to a threshold, and each product is exact.
    text = (hidden(61, 33) * 8).round().div(8).to(dtype)
    massive = Massive(0.125 * round(absolute * 8), ratio)
    assert check(text, massive) > 10
    assert check(text.flatten()[:-1][None], massive) > 10


def test_none() -> None:
    assert check(hidden(9, 9), Massive()) == 0
    assert check(torch.zeros(4, 4), Massive()) == 0
    assert check(hidden(9, 9) * 1000, Massive()) == 0  # large, but all of them are
    assert check(hidden(99, 99).pow(9) / 1e4, Massive(1e6, 10.0)) == 0


def test_all_but_half() -> None:
    """No more than about half can be larger than their median."""
    text = torch.tensor([[0.0, 0.0, 200.0, -300.0]])
    assert check(text, Massive()) == 2
    assert check(torch.tensor([[0.0, 200.0, -300.0]]), Massive()) == 0
    assert check(torch.full((3, 3), 1e6), Massive()) == 0


def test_all() -> None:
    assert check(torch.full((3, 4), 200.0), Massive(100.0, 0.5)) == 12


@pytest.mark.parametrize("dtype", FLOATS)
def test_both_bounds_are_strict(dtype: torch.dtype) -> None:
    small = torch.full((3, 7), 0.001, dtype=dtype)
    for value, found in ((100.0, 0), (-100.0, 0), (100.5, 1), (-100.5, 1)):
        text = small.clone()
        text[1, 2] = value
        assert check(text, Massive()) == found
    large = torch.full((3, 7), 0.25, dtype=dtype)
    for value, found in ((256.0, 0), (-256.0, 0), (258.0, 1), (-258.0, 1)):
        text = large.clone()
        text[1, 2] = value
        assert check(text, Massive(100.0, 1024.0)) == found


def test_the_lower_median_of_an_even_number() -> None:
    text = torch.tensor([[0.001, 0.001, 0.001, 1.0, 1.0, 150.0]])
    assert check(text, Massive()) == 1
    assert check(torch.cat([text, torch.ones(1, 6)], 1), Massive()) == 0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("small", "found"), [(2047, 0), (2048, 1)])
def test_counts_are_exact_in_any_type(dtype: torch.dtype, small: int, found: int) -> None:
    text = torch.full((64, 64), 1.0, dtype=dtype)
    text.view(-1)[:small] = 0.01
    text[-1, -1] = 500.0
    assert check(text, Massive()) == found


def test_values_that_are_not_finite() -> None:
    text = hidden(9, 9)
    text[2, 2] = math.inf
    assert check(text, Massive()) == 1
    text[3, 3] = -1e6
    assert check(text, Massive()) == 2
    text[4, 4] = math.nan  # whose median nobody knows
    assert Massive().bound(text) is None


def test_nothing_is_changed() -> None:
    text = hidden(9, 9) * 1000
    before = text.clone()
    Massive(1.0, 1.0).bound(text)
    assert torch.equal(text, before)
