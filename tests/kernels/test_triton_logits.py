"""Scores by kernels in Triton, against the operations in plain torch and scipy in fp64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr
from torch import Tensor

from harness.scoring import tokens
from harness.scoring.tokens import Predictions, kl_by_operations, kl_by_triton, token_nll
from tests.kernels.device import DEVICE, on_device

pytest.importorskip("triton", reason="Triton is not installed")

# The interpreter computes with numpy, which warns of what is no number.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

HALVES = [torch.float32, torch.bfloat16, torch.float16]


def logits(seed: int, rows: int = 3, scale: float = 3.0, columns: int = 5000) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * scale


def both(x: Tensor) -> tuple[Predictions, Predictions]:
    """By the kernel, and by plain torch on the CPU."""
    found = Predictions.by_triton(on_device(x))
    x = x.float()
    peak, top = x.max(1)
    return found, Predictions(x, peak, tokens.sums_by_operations(x, peak).log(), top)


def check(x: Tensor) -> Predictions:
    found, wanted = both(x)
    assert (found.peak.dtype, found.log_sum.dtype) == (torch.float32, torch.float32)
    assert torch.equal(found.peak.cpu(), wanted.peak)
    assert torch.equal(found.top.cpu(), wanted.top)
    torch.testing.assert_close(found.log_sum.cpu(), wanted.log_sum, rtol=1e-6, atol=1e-6)
    exact = torch.logsumexp(x.double(), 1) - x.double().amax(1)
    torch.testing.assert_close(found.log_sum.cpu().double(), exact, rtol=1e-6, atol=1e-6)
    return found


def kl(x: Tensor, y: Tensor) -> np.ndarray:
    p, q = (Predictions.by_triton(on_device(each)) for each in (x, y))
    return kl_by_triton(p, q).cpu().numpy()


def exact_kl(x: Tensor, y: Tensor) -> np.ndarray:
    log_p, log_q = (log_softmax(each.double().numpy(), axis=-1) for each in (x, y))
    return rel_entr(np.exp(log_p), np.exp(log_q)).sum(-1)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("columns", [1, 2, 7, 1000, 2048, 2049, 5000])
@pytest.mark.parametrize("scale", [0.0, 3.0, 300.0])
def test_predictions(dtype: torch.dtype, columns: int, scale: float) -> None:
    x = logits(0, scale=scale, columns=columns).to(dtype)
    found = check(x)
    assert found.logits.dtype == dtype  # no copy of them was made
    targets = torch.tensor([0, columns // 2, columns - 1])
    wanted = -log_softmax(x.double().numpy(), axis=-1)[np.arange(3), targets]
    nll = token_nll(found, targets.to(DEVICE))
    np.testing.assert_allclose(nll.cpu(), wanted, rtol=2e-6, atol=1e-6)


def test_the_first_of_equals() -> None:
    x = torch.zeros(4, 5000)
    x[1, [4999, 17, 2048]] = 1.0
    x[2, [2047, 2048 + 5]] = 1.0
    x[3, [5, 2048 + 5]] = 1.0
    assert check(x).top.tolist() == [0, 17, 2047, 5]


@pytest.mark.parametrize("tail", [-9.0, -13.0, -17.0])
def test_what_many_unlikely_tokens_add_up_to_is_not_lost_beside_a_likely_one(tail: float) -> None:
    x = tail + 0.3 * logits(0, rows=2, scale=1.0, columns=2**17)
    x[0, 0] = x[1, 70_000] = 0.0
    found = Predictions.by_triton(on_device(x))
    np.testing.assert_allclose(found.log_sum.cpu(), x.double().exp().sum(1).log(), atol=1e-6)


@pytest.mark.parametrize("odd", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 1, 4999])
def test_what_is_odd_anywhere_is_seen_and_stays_in_its_row(odd: float, place: int) -> None:
    x, y = logits(0), logits(1)
    clean = kl(x, y)
    x[0, place] = odd
    y[2, place] = odd
    p, q = (Predictions.by_triton(on_device(each)) for each in (x, y))
    assert p.log_sum.isnan().tolist() == [True, False, False]
    assert q.log_sum.isnan().tolist() == [False, False, True]
    found = kl(x, y)
    assert np.isnan(found).tolist() == [True, False, True]
    assert found[1] == clean[1]


def test_nothing_is_possible() -> None:
    assert Predictions.by_triton(on_device(torch.full((1, 9), -torch.inf))).log_sum.isnan().all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("distance", [0.03, 0.3, 3.0])
def test_kl_is_scipys(dtype: torch.dtype, distance: float) -> None:
    x = logits(0).to(dtype)
    y = (x + logits(1, scale=distance)).to(dtype)
    found = kl(x, y)
    np.testing.assert_allclose(found, exact_kl(x, y), rtol=2e-5)
    p, q = both(x)[1], both(y)[1]
    np.testing.assert_allclose(found, kl_by_operations(p, q), rtol=2e-5)


def test_a_model_of_another_type() -> None:
    x, y = logits(0).bfloat16(), logits(1)
    np.testing.assert_allclose(kl(x, y), exact_kl(x, y), rtol=2e-5)


@pytest.mark.parametrize(("distance", "rtol"), [(1e-2, 2e-4), (1e-3, 5e-4), (1e-4, 2e-3)])
def test_tiny_kl_keeps_its_relative_accuracy(distance: float, rtol: float) -> None:
    x = logits(0)
    y = x + logits(1, scale=distance)
    np.testing.assert_allclose(kl(x, y), exact_kl(x, y), rtol=rtol)


@pytest.mark.parametrize("columns", [1, 1000, 5000])
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_kl_of_the_same_logits_is_exactly_zero(columns: int, scale: float) -> None:
    x = logits(0, scale=scale, columns=columns)
    assert kl(x, x.clone()).tolist() == [0.0] * 3


def test_impossible_tokens() -> None:
    x, y = logits(0), logits(1)
    x[0, 5] = y[0, 5] = -torch.inf  # for both
    x[1, 5] = -torch.inf  # for the original alone
    y[2, 5] = -torch.inf  # for the variant alone
    found = kl(x, y)
    np.testing.assert_allclose(found[:2], exact_kl(x, y)[:2], rtol=2e-5)
    assert found[2] == np.inf


@pytest.mark.parametrize("height", [95.0, 600.0, 1e30])
def test_disjoint_predictions(height: float) -> None:
    x, y = torch.zeros(1, 4), torch.zeros(1, 4)
    x[0, :2], y[0, 2:] = -height, -height
    np.testing.assert_allclose(kl(x, y), [height], rtol=1e-6)
    x, y = torch.tensor([[0.0, -height]]), torch.tensor([[0.0, -torch.inf]])
    assert kl(x, y).tolist() == [np.inf]


@pytest.mark.parametrize(
    "view", [lambda x: x[::2], lambda x: x[:, :900], lambda x: x[:, :3].T[:2], lambda x: x[:, ::3]]
)
def test_any_memory_layout(view: Callable[[Tensor], Tensor]) -> None:
    x, y = view(logits(0, columns=1000)), view(logits(1, columns=1000))
    check(x)
    assert kl(x, y).tolist() == kl(x.contiguous(), y.contiguous()).tolist()


def test_nothing_scored() -> None:
    none = torch.zeros(0, 5)
    assert kl(none, none).shape == (0,)


def test_logits_are_left_as_they_are() -> None:
    x = on_device(logits(0))
    kept = x.clone()
    p = Predictions.by_triton(x)
    kl_by_triton(p, p)
    assert torch.equal(x, kept)
    torch.testing.assert_close(p.log_probs(), kept.log_softmax(-1), rtol=1e-6, atol=2e-6)
