"""Criteria against plain Python and numpy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.errors import ConfigError
from harness.outliers import (
    AbsoluteThreshold,
    Criterion,
    SigmaThreshold,
    TopFraction,
    pieces,
    spread,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
INF, NAN = math.inf, math.nan


@pytest.fixture(params=[None, 7])
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole tensors, and the same in pieces of seven entries."""
    if request.param is not None:
        monkeypatch.setattr(pieces, "PIECE", request.param)


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) ** 3).to(dtype)


def layouts(dtype: torch.dtype) -> list[Tensor]:
    return [
        random(9, 14, dtype=dtype),
        random(14, 9, dtype=dtype).t(),
        random(3, 5, 8, dtype=dtype).permute(2, 0, 1),
        random(1, 40, dtype=dtype)[:, ::2],
        random(8, 9, dtype=dtype)[::2, 1::3],
        random(37, dtype=dtype),
        random(1, dtype=dtype)[0],
        random(0, 3, dtype=dtype),
    ]


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("dtype", DTYPES)
def test_pieces_are_the_tensor_in_row_major_order(dtype: torch.dtype) -> None:
    for tensor in layouts(dtype):
        parts = list(pieces.pieces(tensor))
        assert torch.equal(torch.cat([part.flatten() for part in parts]), tensor.flatten())
        assert all(part.numel() <= pieces.PIECE for part in parts)


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("dtype", DTYPES)
def test_absolute_threshold_compares_every_entry(dtype: torch.dtype) -> None:
    for tensor in layouts(dtype):
        expected = [abs(value) > 1.5 for value in tensor.double().flatten().tolist()]
        mask = AbsoluteThreshold(1.5).select(tensor)
        assert mask.shape == tensor.shape
        assert mask.flatten().tolist() == expected


def test_absolute_threshold_is_strict_and_not_rounded_to_the_weights_type() -> None:
    weight = torch.tensor([5.0, -5.0, 5.03125, -5.03125, INF, -INF, NAN, 0.0])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        mask = AbsoluteThreshold(5.0).select(weight.to(dtype))
        assert mask.tolist() == [False, False, True, True, True, True, False, False]
        # 5.01 is 5 in bfloat16 and a value of its own in single precision
        assert AbsoluteThreshold(4.99).select(weight.to(dtype))[0]
    assert not AbsoluteThreshold(5.04).select(weight.bfloat16())[2]
    assert not AbsoluteThreshold(0.1).select(torch.tensor([0.1])).any()


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigmas", [0.5, 2.0])
def test_sigma_threshold_is_that_of_numpy(dtype: torch.dtype, sigmas: float) -> None:
    for tensor in layouts(dtype):
        values = (tensor + 3).double().numpy()
        if values.size < 2:
            continue
        expected = abs(values - values.mean()) > sigmas * values.std(ddof=1)
        mask = SigmaThreshold(sigmas).select(tensor + 3)
        assert mask.numpy().tolist() == expected.tolist()


@pytest.mark.usefixtures("piece")
def test_sigma_statistics_are_those_of_finite_entries() -> None:
    clean = random(200)
    dirty = torch.cat([clean, torch.tensor([NAN, INF, -INF])])[torch.randperm(203)]
    assert spread.mean_and_std(dirty) == pytest.approx(
        (clean.double().mean().item(), clean.double().std().item()), rel=1e-12
    )
    mask = SigmaThreshold(3.0).select(dirty)
    assert mask[dirty.isinf()].all()
    assert not mask[dirty.isnan()].any()
    assert mask.sum() == SigmaThreshold(3.0).select(clean).sum() + 2


@pytest.mark.parametrize("value", [0.1, 1e-30, -7.3, 1e30])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sigma_threshold_finds_nothing_in_a_constant(
    value: float, size: int, dtype: torch.dtype
) -> None:
    assert not SigmaThreshold(1e-9).select(torch.full((size,), value, dtype=dtype)).any()


@pytest.mark.parametrize("values", [[INF], [NAN, NAN], [INF, 1.0], [], [NAN, 1.0, -INF]])
def test_sigma_threshold_needs_two_finite_entries(values: list[float]) -> None:
    assert not SigmaThreshold(1.0).select(torch.tensor(values)).any()


def test_sigma_threshold_is_not_lost_in_a_large_mean() -> None:
    weight = random(5000, dtype=torch.float64) * 1e-4 + 1000
    values = weight.numpy()
    expected = abs(values - values.mean()) > 3 * values.std(ddof=1)
    assert 0 < expected.sum() == SigmaThreshold(3.0).select(weight).sum()


def top_reference(tensor: Tensor, count: int) -> list[bool]:
    values = [abs(v) for v in tensor.double().flatten().tolist()]
    order = sorted((i for i, v in enumerate(values) if not math.isnan(v)), key=lambda i: -values[i])
    chosen = set(order[:count])
    return [i in chosen for i in range(len(values))]


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fraction", [0.05, 0.29, 0.5, 1.0])
def test_top_fraction_takes_the_largest(dtype: torch.dtype, fraction: float) -> None:
    for tensor in layouts(dtype):
        count = math.floor(round(fraction * 100) * tensor.numel() / 100)
        mask = TopFraction(fraction).select(tensor)
        assert mask.shape == tensor.shape
        assert mask.flatten().tolist() == top_reference(tensor, count)


@pytest.mark.usefixtures("piece")
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.7])
def test_of_ties_the_first_are_taken(fraction: float) -> None:
    tied = torch.tensor([1.0, -2.0, 2.0, 0.0, -0.0, NAN, INF, -INF, 2.0, 1.0]).repeat(7, 3).t()
    mask = TopFraction(fraction).select(tied)
    assert mask.sum() == round(fraction * 210)
    assert mask.flatten().tolist() == top_reference(tied, round(fraction * 210))
    zeros = torch.zeros(4, 25)
    assert TopFraction(fraction).select(zeros).flatten().nonzero().flatten().tolist() == list(
        range(round(fraction * 100))
    )


def test_top_fraction_never_takes_nan() -> None:
    weight = torch.tensor([NAN, 1.0, -NAN, -3.0])
    assert TopFraction(1.0).select(weight).tolist() == [False, True, False, True]
    assert not TopFraction(1.0).select(torch.full((3,), NAN)).any()


@pytest.mark.parametrize(
    ("fraction", "size", "count"),
    [(0.1, 10, 1), (0.29, 100, 29), (0.57, 100, 57), (1e-6, 999_999, 0), (1e-6, 10**6, 1)],
)
def test_the_share_is_the_decimal_number_that_was_written(
    fraction: float, size: int, count: int
) -> None:
    assert TopFraction(fraction).select(torch.arange(size)[:, None].float()).sum() == count


def test_values_in_every_part_of_the_range_are_ordered() -> None:
    exponents = torch.arange(-148, 127, dtype=torch.float64)
    weight = torch.cat([2.0**exponents, -(2.0**exponents) * 1.5]).float()
    wide = 10.0 ** torch.arange(-300, 300, dtype=torch.float64)
    for tensor in (weight, wide):
        for count in (1, 17, tensor.numel() - 1):
            mask = TopFraction(count / tensor.numel() + 1e-9).select(tensor)
            assert mask.tolist() == top_reference(tensor, int(mask.sum()))
            assert mask.sum() == count


def test_weights_that_require_gradients_can_be_judged() -> None:
    weight = torch.nn.Parameter(random(8, 8))
    for criterion in (AbsoluteThreshold(1.0), SigmaThreshold(1.0), TopFraction(0.1)):
        assert criterion.select(weight).any()
        assert len(criterion.bounds(weight)) == 2


class Negative(Criterion):
    """The default interval is for criteria like this one."""

    def select(self, weight: Tensor) -> Tensor:
        return weight < 0


@pytest.mark.usefixtures("piece")
def test_bounds_are_the_range_of_what_is_not_selected() -> None:
    for tensor in layouts(torch.float32):
        rest = tensor[tensor >= 0].tolist()
        expected = (min(rest), max(rest)) if rest else (0.0, 0.0)
        assert Negative().bounds(tensor) == expected
    dirty = torch.tensor([-5.0, 1.0, INF, NAN, 3.0])
    assert Negative().bounds(dirty) == (1.0, 3.0)
    assert Negative().bounds(torch.tensor([NAN])) == (0.0, 0.0)


def test_bounds_of_the_thresholds() -> None:
    assert AbsoluteThreshold(2.0).bounds(torch.zeros(3)) == (-2.0, 2.0)
    assert SigmaThreshold(2.0).bounds(torch.tensor([1.0, 3.0])) == pytest.approx(
        (2 - 2 * 2**0.5, 2 + 2 * 2**0.5)
    )
    assert SigmaThreshold(2.0).bounds(torch.tensor(1.0)) == (1.0, 1.0)
    assert TopFraction(0.5).bounds(torch.tensor([4.0, -1.0, -9.0, 0.5])) == (-1.0, 0.5)


@pytest.mark.parametrize("value", [0, -1.0, INF, -INF, NAN, True, "5", None])
@pytest.mark.parametrize(
    ("criterion", "key"),
    [(AbsoluteThreshold, "threshold"), (SigmaThreshold, "sigmas"), (TopFraction, "fraction")],
)
def test_what_is_no_positive_number_is_refused(
    criterion: type[Criterion], key: str, value: object
) -> None:
    with pytest.raises(ConfigError) as error:
        criterion(value)  # type: ignore[call-arg]
    assert error.value.key == key


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fraction=1\.5"):
        TopFraction(1.5)


def test_criteria_are_called_as_a_user_writes_them() -> None:
    assert str(AbsoluteThreshold()) == "AbsoluteThreshold(threshold=5.0)"
    assert str(SigmaThreshold()) == "SigmaThreshold(sigmas=6.0)"
    assert TopFraction(0.5) == TopFraction(fraction=0.5)
