"""Intervals and masks against plain Python."""

from __future__ import annotations

import math

import pytest
import torch

from harness.outliers import pieces, ranking

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INF, NAN = math.inf, math.nan


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ends_that_the_data_type_cannot_hold_are_not_rounded(dtype: torch.dtype) -> None:
    around = torch.tensor([-5.03, -5.0, -0.1, -1e-30, -0.0, 0.1, 1.0, 60000.0, INF, -INF, NAN])
    tensor = torch.cat([around, around.nextafter(torch.tensor(INF)), -around]).to(dtype)
    ends = [-INF, -70000.0, -5.03, -0.1, 0.0, 1e-50, 0.1, 0.1 + 1e-12, 5.0, 1e5, 1e300, INF]
    for low in ends:
        for high in ends:
            expected = [value < low or value > high for value in tensor.double().tolist()]
            assert pieces.outside(tensor, low, high).tolist() == expected
    assert not pieces.outside(tensor, NAN, NAN).any()


def test_types_too_narrow_to_compute_with_are_compared_too() -> None:
    tensor = torch.tensor([1.0, -3.0, 0.5, 2.0]).to(torch.float8_e4m3fn)
    assert pieces.outside(tensor, -2.5, 1.9).tolist() == [False, True, False, True]
    assert ranking.largest(tensor, 2).tolist() == [False, True, False, True]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 1003])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_positions_of_what_is_marked(size: int, share: float) -> None:
    marks = torch.rand(3, size + 1, generator=torch.Generator().manual_seed(0)) < share
    for where in (marks, marks.t(), marks[1], marks[:, 1:], marks.flatten()[1:]):
        expected = [place for place, mark in enumerate(where.flatten().tolist()) if mark]
        assert pieces.marked(where).tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("count", [1, 3, 40, 300, 1100, 70_000])
def test_few_and_many_are_selected_alike(count: int, dtype: torch.dtype) -> None:
    tensor = (torch.randn(700, 430, generator=torch.Generator().manual_seed(0)) ** 3).to(dtype)
    tensor[::9, ::3] = NAN
    tensor[5, 1:7], tensor[6, 1:7] = INF, -INF
    magnitudes = tensor.double().abs().flatten().nan_to_num(-1.0, posinf=INF)
    order = magnitudes.sort(stable=True, descending=True).indices[:count]
    expected = torch.zeros(tensor.numel(), dtype=torch.bool)
    expected[order] = True
    assert torch.equal(ranking.largest(tensor, count).flatten(), expected)
    assert torch.equal(ranking._by_counting(tensor, count).flatten(), expected)


def test_where_most_are_nan_all_others_are_taken() -> None:
    tensor = torch.full((500, 1000), NAN)
    tensor[3, 4], tensor[400, 5] = -0.0, 2.0
    assert ranking.largest(tensor, 5).nonzero().tolist() == [[3, 4], [400, 5]]
    assert ranking._by_counting(tensor, 5).nonzero().tolist() == [[3, 4], [400, 5]]
