"""How near a criterion came, against numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.outliers import AbsoluteThreshold, Criterion, SigmaThreshold, TopFraction, pieces

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@dataclass(frozen=True)
class Mine(Criterion):
    """A criterion of somebody's own."""

    def select(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight, dtype=torch.bool)


@pytest.fixture(params=[None, 7], autouse=True)
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole tensors, and the same in pieces of seven entries."""
    if request.param is not None:
        monkeypatch.setattr(pieces, "PIECE", request.param)


def weights(dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        "bias": torch.randn(20, generator=generator) / 9,
        "turned": torch.randn(14, 9, generator=generator).t(),
        "cube": torch.randn(3, 5, 8, generator=generator) * 2,
        "none": torch.empty(0, 3),
        "even": torch.full((4, 4), 3.0),
        "one": torch.tensor(0.5),
    }
    made["bias"][4] = math.nan
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def place(name: str, values: np.ndarray) -> str:
    index = np.unravel_index(int(np.nanargmax(values)), values.shape)
    return f"{name}[{', '.join(str(int(i)) for i in index)}]"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("criterion", [AbsoluteThreshold(1e4), Mine()], ids=["absolute", "own"])
def test_the_largest_magnitude_and_where(criterion: Criterion, dtype: torch.dtype) -> None:
    parameters = weights(dtype)
    arrays = {n: np.abs(w.double().numpy()) for n, w in parameters.items() if w.numel()}
    name = max(arrays, key=lambda n: np.nanmax(arrays[n]))
    total = sum(w.numel() for w in parameters.values())
    assert criterion.nearest(parameters) == (
        f"the largest of its {total} weights is |w| = {np.nanmax(arrays[name]):.4g}, "
        f"at {place(name, arrays[name])}"
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_distance_in_sigmas_and_where(dtype: torch.dtype) -> None:
    parameters = weights(dtype)
    distances = {}
    for name, weight in parameters.items():
        values = weight.double().numpy()
        if weight.numel() > 1 and np.nanstd(values):
            distances[name] = np.abs(values - np.nanmean(values)) / np.nanstd(values, ddof=1)
    name = max(distances, key=lambda n: np.nanmax(distances[n]))
    total = sum(w.numel() for w in parameters.values())
    assert SigmaThreshold(50).nearest(parameters) == (
        f"the largest of its {total} weights is {np.nanmax(distances[name]):.4g} sigma from the "
        f"mean of its tensor, at {place(name, distances[name])}"
    )


def test_a_share_of_less_than_one() -> None:
    assert TopFraction(1e-3).nearest(weights(torch.float32)) == (
        "0.001 of its largest tensor, turned of 126 weights, is less than one"
    )


def test_where_there_is_no_number_nothing_is_near() -> None:
    nothing = {"a": torch.full((3, 4), math.nan), "b": torch.empty(0)}
    assert AbsoluteThreshold().nearest(nothing) is None
    assert SigmaThreshold().nearest(nothing | {"even": torch.ones(5)}) is None


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (AbsoluteThreshold(5.0), "those with |w| > 5"),
        (AbsoluteThreshold(0.25), "those with |w| > 0.25"),
        (SigmaThreshold(5), "those beyond 5 sigma of their tensor"),
        (TopFraction(), "the largest 1e-06 of each tensor"),
        (Mine(), "those of Mine()"),
    ],
)
def test_which_weights_in_words(criterion: Criterion, words: str) -> None:
    assert criterion.which() == words
