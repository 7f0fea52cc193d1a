"""Token scores against scipy in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import kl_div, log_softmax, rel_entr
from torch import Tensor

from harness.scoring.tokens import (
    Predictions,
    kl_by_kernel,
    kl_by_operations,
    sums_by_kernel,
    sums_by_operations,
    token_agreement,
    token_kl,
    token_nll,
)
from tests.waiting import never_waiting

VOCABULARY = 5000


def logits(seed: int, rows: int = 7, scale: float = 3.0, columns: int = VOCABULARY) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * scale


def kl(first: Tensor, second: Tensor) -> np.ndarray:
    return kl_of(Predictions.of(first), Predictions.of(second))


def kl_of(p: Predictions, q: Predictions) -> np.ndarray:
    """By the compiled loop, which the operations that stand in for it elsewhere have to match."""
    found, other = token_kl(p, q), kl_by_operations(p, q)
    assert found.dtype == other.dtype == torch.float32
    np.testing.assert_allclose(found, other, rtol=5e-3, atol=1e-10)
    np.testing.assert_allclose(found[found > 1e-3], other[found > 1e-3], rtol=2e-5)
    assert torch.equal(found == 0, other.clamp(min=0) == 0)
    return found.double().numpy()


def exact_kl(first: Tensor, second: Tensor) -> np.ndarray:
    """By scipy in fp64, from the very same logits."""
    log_p, log_q = (log_softmax(x.double().numpy(), axis=-1) for x in (first, second))
    return rel_entr(np.exp(log_p), np.exp(log_q)).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nll_is_the_log_softmax_of_the_target(dtype: torch.dtype) -> None:
    x = logits(0).to(dtype)
    targets = torch.arange(7) * 700
    expected = -log_softmax(x.double().numpy(), axis=-1)[np.arange(7), targets]
    found = token_nll(Predictions.of(x), targets)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize("distance", [0.03, 0.3, 3.0, 30.0])
def test_kl_is_scipys(distance: float) -> None:
    x = logits(0)
    y = x + logits(1, scale=distance)
    np.testing.assert_allclose(kl(x, y), exact_kl(x, y), rtol=2e-5)


def test_kl_of_the_same_logits_is_exactly_zero() -> None:
    for scale in (0.0, 1.0, 100.0):
        x = logits(0, scale=scale)
        assert kl(x, x.clone()).tolist() == [0.0] * 7


def test_a_constant_added_to_all_logits_is_no_divergence() -> None:
    x = logits(0)
    # Adding it rounds the logits themselves by up to 4e-6.
    assert kl(x, x + 50.0).max() < 1e-10


@pytest.mark.parametrize("offset", [30.0, 1024.0, 2.0**14, 2.0**18])
def test_logits_far_from_zero(offset: float) -> None:
    # Multiples of 2^-5 stay what they are in fp32 at this distance.
    x, y = (torch.round(32 * logits(seed)) / 32 for seed in (0, 1))
    near = 0.5 * torch.round(y / 4)
    for other in (x, y, x + near):
        assert kl(x + offset, other).tolist() == kl(x, other).tolist()
        assert kl(x, other + offset).tolist() == kl(x, other).tolist()
    np.testing.assert_allclose(kl(x + offset, y), exact_kl(x, y), rtol=2e-5)


@pytest.mark.parametrize(("distance", "rtol"), [(1e-2, 2e-4), (1e-3, 5e-4), (1e-4, 2e-3)])
def test_tiny_kl_keeps_its_relative_accuracy(distance: float, rtol: float) -> None:
    x = logits(0)
    y = x + logits(1, scale=distance)
    expected = exact_kl(x, y)
    assert expected.max() < distance**2
    np.testing.assert_allclose(kl(x, y), expected, rtol=rtol)


def test_tiny_kl_of_a_prediction_that_is_nearly_certain() -> None:
    x = logits(0, scale=1.0)
    x[:, 3] += 25.0
    y = x.clone()
    y[:, 3] += 0.01
    expected = exact_kl(x, y)
    assert expected.max() < 1e-10
    np.testing.assert_allclose(kl(x, y), expected, rtol=2e-3, atol=1e-13)


@pytest.mark.parametrize("height", [20.0, 80.0, 200.0, 600.0])
def test_kl_of_disjoint_distributions(height: float) -> None:
    x, y = logits(0), logits(1)
    x[:, : VOCABULARY // 2] -= height
    y[:, VOCABULARY // 2 :] -= height
    assert (exact_kl(x, y) > 0.9 * height).all()
    np.testing.assert_allclose(kl(x, y), exact_kl(x, y), rtol=2e-5)


@pytest.mark.parametrize("height", [1e4, 1e30])
def test_kl_beyond_what_scipy_can_say_of_probabilities(height: float) -> None:
    x, y = torch.zeros(1, 4), torch.zeros(1, 4)
    x[0, :2], y[0, 2:] = -height, -height
    assert exact_kl(x, y).tolist() == [np.inf]  # exp(-height) is 0 in fp64 as well
    np.testing.assert_allclose(kl(x, y), [height], rtol=1e-6)


def test_kl_of_what_the_original_holds_nearly_impossible() -> None:
    # exp(d) is beyond fp32 here, and p is 0 in it, while q is not.
    x = torch.zeros(1, 4)
    x[0, 0] = 120.0
    y = x.clone()
    y[0, 1] = 119.0
    np.testing.assert_allclose(kl(x, y), exact_kl(x, y), rtol=1e-6)


def test_the_sum_is_the_generalised_divergence() -> None:
    # Not normalised, so that -p + q does not vanish.
    log_p, log_q = logits(0, scale=1.0) - 9.0, logits(1, scale=1.0) - 8.0
    p, q = log_p.double().exp().numpy(), log_q.double().exp().numpy()
    expected = kl_div(p, q).sum(-1)
    assert (np.abs(expected - rel_entr(p, q).sum(-1)) > 0.5).all()
    nothing, top = torch.zeros(7), torch.zeros(7, dtype=torch.int64)
    found = kl_of(*(Predictions(x, nothing, nothing, top) for x in (log_p, log_q)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_impossible_tokens() -> None:
    x, y = logits(0, rows=3), logits(1, rows=3)
    x[0, 5] = y[0, 5] = -torch.inf  # for both
    x[1, 5] = -torch.inf  # for the original alone
    y[2, 5] = -torch.inf  # for the variant alone
    found = kl(x, y)
    np.testing.assert_allclose(found[:2], exact_kl(x, y)[:2], rtol=2e-5)
    assert found[2] == np.inf


@pytest.mark.parametrize("height", [50.0, 95.0, 200.0])
def test_what_the_variant_alone_rules_out_is_infinite_however_unlikely(height: float) -> None:
    x = torch.tensor([[0.0, -height]])
    y = torch.tensor([[0.0, -torch.inf]])
    assert kl(x, y).tolist() == [np.inf]
    assert kl(y, y).tolist() == [0.0]


def test_what_is_not_a_number_stays_in_its_row() -> None:
    x, y = logits(0, rows=4), logits(1, rows=4)
    clean = kl(x, y)
    x[0, 5] = torch.nan
    y[1, 5] = torch.nan
    y[2, 5] = torch.inf
    found = kl(x, y)
    assert np.isnan(found[:3]).all()
    assert found[3] == clean[3]
    assert torch.isnan(token_nll(Predictions.of(y), torch.zeros(4, dtype=torch.int64)))[1:3].all()


def test_rows_do_not_depend_on_the_rows_beside_them() -> None:
    # Many enough to be divided between threads.
    x, y = logits(0, rows=3, columns=300_000), logits(1, rows=3, columns=300_000)
    p, q = Predictions.of(x), Predictions.of(y)
    rows = [slice(row, row + 1) for row in range(3)]
    alone = [(Predictions.of(x[row]), Predictions.of(y[row])) for row in rows]
    assert torch.equal(p.log_sum, torch.cat([first.log_sum for first, _ in alone]))
    assert torch.equal(token_kl(p, q), torch.cat([token_kl(*pair) for pair in alone]))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads: int) -> None:
    x, y = logits(0, rows=7, columns=300_000), logits(1, rows=7, columns=300_000)
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            p, q = Predictions.of(x), Predictions.of(y)
            found.append(torch.stack([p.log_sum, token_kl(p, q)]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("columns", [1, 7, 1024, 1025, 5000])
@pytest.mark.parametrize("scale", [0.0, 3.0, 100.0, 1e30])
def test_sums_of_exponentials(columns: int, scale: float) -> None:
    x = logits(0, scale=scale, columns=columns)
    peak = x.amax(1)
    exact = (x - peak[:, None]).double().exp().sum(1)
    for sums in (sums_by_kernel, sums_by_operations):
        np.testing.assert_allclose(sums(x, peak), exact, rtol=1e-6)


@pytest.mark.parametrize("tail", [-9.0, -13.0, -15.0, -17.0, -19.0])
def test_what_many_unlikely_tokens_add_up_to_is_not_lost_beside_a_likely_one(tail: float) -> None:
    x = tail + 0.3 * logits(0, rows=8, scale=1.0, columns=2**18)
    for row, place in enumerate([0, 1, 1023, 1024, 16_384, 100_000, 2**18 - 2, 2**18 - 1]):
        x[row, place] = 0.0
    peak, exact = x.amax(1), x.double().exp().sum(1)
    np.testing.assert_allclose(sums_by_kernel(x, peak), exact, rtol=1.2e-7)
    np.testing.assert_allclose(sums_by_operations(x, peak), exact, rtol=2e-6)
    nll = token_nll(Predictions.of(x), x.argmax(1))
    np.testing.assert_allclose(nll, exact.log(), rtol=0, atol=1.5e-7)
    y = x + 0.5 * logits(1, rows=8, scale=1.0, columns=2**18)
    found = token_kl(Predictions.of(x), Predictions.of(y))
    np.testing.assert_allclose(found, exact_kl(x, y), rtol=1e-5)


def test_exponentials_of_every_size() -> None:
    x = -torch.linspace(0, 100, 40_001)
    found = sums_by_kernel(x[:, None], torch.zeros_like(x)).double()
    exact = x.double().exp()
    # As if x itself were off in its last place; and below what fp32 has normal numbers for, 0.
    error = (found / exact - 1).abs()
    assert (error <= 1.2e-7 * (2 - x))[x > -87.5].all()
    assert (found[x < -88] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_logits_are_left_as_they_are(dtype: torch.dtype) -> None:
    x = logits(0, rows=3).to(dtype)
    kept = x.clone()
    p = Predictions.of(x)
    token_kl(p, p)
    assert torch.equal(x, kept)
    np.testing.assert_allclose(p.log_probs(), kept.log_softmax(-1, dtype=torch.float32), rtol=1e-6)


def test_logits_that_lie_apart_in_memory() -> None:
    x = logits(0, rows=8)
    apart = x.T.contiguous().T[::2]
    assert not apart.is_contiguous()
    assert torch.equal(Predictions.of(apart).log_sum, Predictions.of(x[::2]).log_sum)


@pytest.mark.parametrize("odd", [torch.nan, -torch.nan, torch.inf])
@pytest.mark.parametrize("place", [0, 1, 4999])
def test_what_is_odd_anywhere_is_seen(odd: float, place: int) -> None:
    x, y = logits(0, rows=1), logits(1, rows=1)
    odd_x = x.clone()
    odd_x[0, place] = odd
    p, q = Predictions.of(odd_x), Predictions.of(y)
    assert p.log_sum.isnan().all()
    for measure in (kl_by_kernel, kl_by_operations):
        assert measure(p, q).isnan().all()
        assert measure(q, p).isnan().all()


def test_nothing_scored_is_an_empty_result() -> None:
    none = Predictions.of(torch.zeros(0, 5))
    empty = torch.zeros(0, dtype=torch.int64)
    assert token_nll(none, empty).shape == (0,)
    assert token_kl(none, none).shape == (0,)
    assert token_agreement(none, none).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_agreement_is_equality_of_the_argmax(dtype: torch.dtype) -> None:
    x = logits(0, rows=200, columns=9).to(dtype)
    y = (x + logits(1, rows=200, columns=9)).to(dtype)
    expected = x.double().numpy().argmax(-1) == y.double().numpy().argmax(-1)
    assert 20 < expected.sum() < 180
    assert token_agreement(Predictions.of(x), Predictions.of(y)).tolist() == expected.tolist()


def test_the_likeliest_token_is_told_from_logits_not_from_rounded_probabilities() -> None:
    x = torch.zeros(1, 3)
    x[0] = torch.tensor([0.0, 1e-8, 0.0])  # its log-probabilities are all the same in fp32
    assert len(set(Predictions.of(x).log_probs()[0].tolist())) == 1
    assert Predictions.of(x).top.item() == 1


def test_what_is_not_a_number_agrees_with_nothing() -> None:
    x = torch.full((1, 3), torch.nan)
    assert not token_agreement(Predictions.of(x), Predictions.of(x)).item()


def test_nothing_asks_for_a_number() -> None:
    def scores() -> tuple[Tensor, ...]:
        p, q = (Predictions.by_operations(logits(k), sums_by_operations) for k in (0, 1))
        nll = token_nll(p, torch.arange(7))
        return nll, token_agreement(p, q), kl_by_operations(p, q)

    assert all(len(score) == 7 for score in never_waiting(scores)())
