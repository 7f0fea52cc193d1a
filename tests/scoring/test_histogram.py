"""The histogram against exact sample quantiles."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from harness.scoring.histogram import RELATIVE_ERROR, LogHistogram

SHARES = [0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0]


def histogram_of(*parts: torch.Tensor) -> LogHistogram:
    histogram = LogHistogram()
    for part in parts:
        histogram.add(part)
    return histogram


def everything(histogram: LogHistogram) -> list[object]:
    return [histogram.state(), histogram.count, *(histogram.quantile(q) for q in SHARES)]


def test_the_stated_error_is_half_a_bin() -> None:
    assert math.isclose(RELATIVE_ERROR, 10 ** (1 / 200) - 1, rel_tol=1e-12)
    assert RELATIVE_ERROR < 0.012


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.1, 2.0, 6.0])
def test_quantiles_are_within_the_stated_error(spread: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logs = -3 + spread * torch.randn(20_001, generator=generator, dtype=torch.float64)
    values = (10 ** logs.clamp(-9.99, 2.99)).to(dtype)
    histogram = histogram_of(values)
    for q in SHARES:
        exact = np.quantile(values.double().numpy(), q, method="inverted_cdf")
        assert histogram.quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR * (1 + 1e-9))


def test_every_bin_keeps_the_bound_and_none_does_better_by_much() -> None:
    values = 10 ** torch.linspace(-10, 2.9999, 130_000, dtype=torch.float64)
    errors = []
    for value in values[::37].tolist():
        read = histogram_of(torch.tensor([value, 1e3], dtype=torch.float64)).quantile(0.5)
        assert read is not None
        errors.append(abs(read - value) / value)
    assert 0.98 * RELATIVE_ERROR < max(errors) <= RELATIVE_ERROR * (1 + 1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 100, 101])
def test_ranks_agree_with_numpy_where_the_sample_is_small(n: int) -> None:
    values = 10 ** torch.linspace(-6, 1, n, dtype=torch.float64)
    histogram = histogram_of(values)
    for q in SHARES:
        exact = np.quantile(values.numpy(), q, method="inverted_cdf")
        assert histogram.quantile(q) == pytest.approx(exact, rel=RELATIVE_ERROR)


def test_zeros_and_whatever_is_smaller_than_the_bins_read_zero() -> None:
    histogram = histogram_of(torch.tensor([0.0, -1e-9, 1e-11, 1e-45, 0.5]))
    assert histogram.count == 5
    assert histogram.quantile(0.8) == 0.0
    assert histogram.quantile(0.81) == pytest.approx(0.5, rel=RELATIVE_ERROR)
    assert histogram_of(torch.zeros(3)).quantile(1.0) == 0.0


def test_overflow_stands_in_the_last_bin_and_the_maximum_is_exact() -> None:
    histogram = histogram_of(torch.tensor([1.0, 1e3, 1e5, 123456.7], dtype=torch.float64))
    assert histogram.quantile(1.0) == pytest.approx(1e3, rel=RELATIVE_ERROR)
    assert histogram.maximum == 123456.7
    assert histogram.count == 4


def test_no_quantile_exceeds_the_maximum() -> None:
    for value in (0.0100001, 0.0110001, 7.3):
        histogram = histogram_of(torch.full((5,), value, dtype=torch.float64))
        assert histogram.quantile(0.99) is not None
        assert histogram.quantile(0.99) <= value


def test_non_finite_values_are_counted_apart() -> None:
    histogram = histogram_of(torch.tensor([math.nan, math.inf, -math.inf, 2.0]))
    assert (histogram.nonfinite, histogram.count, histogram.maximum) == (3, 1, 2.0)
    assert histogram.quantile(0.0) == histogram.quantile(1.0) == pytest.approx(2.0, rel=0.012)


def test_empty_has_no_quantile() -> None:
    assert LogHistogram().quantile(0.5) is None
    assert histogram_of(torch.tensor([])).maximum is None
    assert histogram_of(torch.tensor([math.nan])).quantile(0.5) is None


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_shares_outside_zero_to_one_are_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        LogHistogram().quantile(q)


def test_merging_in_any_order_gives_the_same() -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(4, 3, 50, generator=generator).pow(8)
    values[2, 1, 7], values[3] = math.inf, 0.0
    whole = everything(histogram_of(values))
    for order in itertools.permutations(range(4)):
        merged = LogHistogram()
        for part in order:
            merged.merge(histogram_of(*values[part]))
        assert everything(merged) == whole
    assert whole != everything(histogram_of(values[:3]))


def test_merging_leaves_the_other_alone() -> None:
    one, other = histogram_of(torch.ones(2)), histogram_of(torch.full((3,), 2.0))
    before = everything(other)
    one.merge(other)
    one.add(torch.ones(1))
    assert everything(other) == before
    assert one.count == 6


def test_state_goes_through_json_and_back() -> None:
    histogram = histogram_of(torch.tensor([0.0, 0.1, 0.1, 5.0, 1e9, math.nan]))
    state = json.loads(json.dumps(histogram.state(), allow_nan=False))
    assert everything(LogHistogram.from_state(state)) == everything(histogram)
    assert sum(state["counts"]) == 5
    empty = LogHistogram.from_state(json.loads(json.dumps(LogHistogram().state())))
    assert everything(empty) == everything(LogHistogram())
