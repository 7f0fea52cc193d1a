"""Streaming moments against naive sums in fp64."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from harness.kernels import moments as kernels
from harness.probes import Moments, Thresholds, measure
from harness.probes.measuring import measure_parts
from harness.probes.parts import Parts, Stretches
from harness.probes.reading import (
    count_outside,
    outside_by_operations,
    power_sums,
    sums_by_operations,
)

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
CLOSE = {"mean", "rms", "std", "kurtosis"}
T = Thresholds(6.0, 6.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_threes(values: Tensor) -> Stretches:
    return Parts({"all": [(0, len(values))]}, 3).stretches


def naive(values: Tensor, thresholds: Thresholds) -> dict[str, float]:
    """What `Moments` is said to hold, from all values at once."""
    x = values.detach().double().flatten().numpy()
    with np.errstate(invalid="ignore"):
        mean, std = (x.mean(), x.std()) if len(x) else (math.nan, math.nan)
        return {
            "count": len(x),
            "max_abs": np.abs(x).max(initial=0.0),
            "mean": mean,
            "rms": np.sqrt((x**2).mean()) if len(x) else math.nan,
            "std": std,
            "kurtosis": ((x - mean) ** 4).mean() / std**4 if std > 0 else math.nan,
            "beyond": int((np.abs(x) > thresholds.absolute).sum()),
            "beyond_sigmas": int((np.abs(x - mean) > thresholds.sigmas * std).sum()),
        }


def check(values: Tensor, thresholds: Thresholds, *, rel: float = 1e-5) -> Moments:
    found = measure(values, thresholds)
    compare(found, naive(values, thresholds), rel)
    return found


def compare(found: Moments, expected: dict[str, float], rel: float = 1e-5) -> None:
    scale = expected["rms"] * rel if math.isfinite(expected["rms"]) else 0.0
    for name, value in expected.items():
        if name in CLOSE:
            # A mean that vanishes is known as well as the values that it is the mean of.
            want = pytest.approx(value, rel=rel, abs=scale if name == "mean" else 0.0, nan_ok=True)
        else:
            want = pytest.approx(value, rel=0, abs=0, nan_ok=True)
        assert getattr(found, name) == want, name
    if found.count:
        number, finite = not math.isnan(found.max_abs), math.isfinite(found.max_abs)
        shares = found.beyond / found.count, found.beyond_sigmas / found.count
        assert found.share_beyond == pytest.approx(shares[0] if number else math.nan, nan_ok=True)
        assert found.share_beyond_sigmas == pytest.approx(
            shares[1] if finite else math.nan, nan_ok=True
        )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(7, 5), (1, 1000), (1000, 1), (3, 40_000), (700, 300)])
def test_against_sums_in_fp64(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    values = (0.3 + 2 * normal(*shape)).to(dtype)
    found = check(values, Thresholds(1.5, 2.0))
    assert found.beyond
    assert found.beyond_sigmas
    assert found.massive == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio", [3.0, 30.0, 1000.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_values_far_from_zero(dtype: torch.dtype, ratio: float, sign: int) -> None:
    values = (sign * (ratio + normal(900, 100))).to(dtype)
    # What sums of powers lose: about the fourth power of the ratio.
    found = check(values, Thresholds(ratio, 3.0), rel=max(1e-9, 2e-15 * ratio**4))
    assert 0 < found.beyond < found.count
    assert found.beyond_sigmas


def test_kurtosis_is_not_given_where_it_is_not_known() -> None:
    values = 1 + 1e-5 * normal(100, 100)
    found = measure(values, Thresholds())
    assert math.isnan(found.kurtosis)
    assert found.std == pytest.approx(float(values.std(correction=0)), rel=1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_heavy_tails(dtype: torch.dtype) -> None:
    values = normal(400, 300).pow(7).clamp(-60_000, 60_000).to(dtype)
    found = check(values, Thresholds(100.0, 6.0))
    assert found.kurtosis > 100
    assert found.beyond_sigmas > 100


def test_one_value_among_many() -> None:
    values = normal(1000, 300).float()
    values[567, 89] = -3000.0
    found = check(values, Thresholds(6.0, 6.0))
    assert found.max_abs == 3000.0
    assert found.beyond_sigmas == 1


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e8, 1e18, 3e30])
def test_fourth_powers_that_single_precision_does_not_hold(scale: float) -> None:
    values = (normal(300, 300) * scale).float()
    found = check(values, Thresholds(2 * scale, 2.0))
    assert found.kurtosis == pytest.approx(3, rel=0.05)


def test_sums_that_single_precision_does_not_hold() -> None:
    check(torch.full((300, 300), 3e38) * (1 - normal(300, 300).abs().clamp(max=0.9)).float(), T)


def test_what_double_precision_does_not_hold_raises_nothing() -> None:
    for values in (normal(9, 9) * 1e160, normal(9, 9) + 1e200, normal(9, 9) * 1e300):
        found = measure(values, T)
        assert found.max_abs == float(values.abs().max())
        assert found.beyond == 81
        assert not math.isfinite(found.kurtosis)
        Moments.sum([found, found]).std  # noqa: B018


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [0.0, 0.1, -0.3, 1.0, 3.3, 1e4])
@pytest.mark.parametrize("shape", [(333, 301), (1, 3), (49, 1), (1, 70_000)])
def test_equal_values(dtype: torch.dtype, value: float, shape: tuple[int, int]) -> None:
    values = torch.full(shape, value, dtype=dtype)
    found = measure(values, T)
    exact = float(values[0, 0])
    assert (found.count, found.max_abs) == (values.numel(), abs(exact))
    assert found.mean == pytest.approx(exact, rel=1e-12)
    assert found.rms == pytest.approx(abs(exact), rel=1e-12)
    assert found.std == 0.0
    assert math.isnan(found.kurtosis)
    assert found.beyond == (values.numel() if abs(value) > 6 else 0)
    assert found.beyond_sigmas == 0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("place", [0, 150, -1])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(dtype: torch.dtype, place: int, value: float) -> None:
    values = (4 * normal(300, 300)).to(dtype)
    values[place, place] = value
    found = measure(values, T)
    expected = naive(values, T)
    assert found.beyond == expected["beyond"] > 1000
    assert found.beyond_sigmas == expected["beyond_sigmas"] == 0
    assert found.max_abs == pytest.approx(abs(value), nan_ok=True)
    assert math.isnan(found.std)
    assert math.isnan(found.kurtosis)
    sound = measure(normal(3, 3), T)
    for both in (found + sound, sound + found):
        assert both.max_abs == pytest.approx(abs(value), nan_ok=True)
        assert both.count == found.count + 9


def test_both_infinities() -> None:
    assert measure(torch.tensor([[math.inf, -math.inf, 1.0]]), T).max_abs == math.inf
    values = torch.tensor([[math.inf, -math.inf, math.nan]])
    assert math.isnan(measure(values, T).max_abs)


def test_no_values() -> None:
    for values in (torch.empty(0, 4), torch.empty(4, 0), torch.empty(0, 0)):
        found = measure(values, T)
        assert found == Moments()
        figures = (found.mean, found.rms, found.std, found.kurtosis, found.share_beyond)
        assert all(map(math.isnan, (*figures, found.share_beyond_sigmas)))


def test_one_value() -> None:
    found = measure(torch.tensor([[-7.0]]), T)
    assert (found.count, found.max_abs, found.mean, found.rms) == (1, 7.0, -7.0, 7.0)
    assert (found.std, found.beyond, found.beyond_sigmas) == (0.0, 1, 0)
    assert math.isnan(found.kurtosis)


def test_thresholds_are_exceeded_strictly() -> None:
    for dtype in FLOATS:
        values = torch.tensor([[-6.0, 6.0, 6.25, -6.25, 0.0]], dtype=dtype)
        assert measure(values, T).beyond == 2
    # Mean 0 and standard deviation 1, all of it exact.
    values = torch.tensor([[1.0, -1.0] * 8])
    assert measure(values, Thresholds(6.0, 1.0)).beyond_sigmas == 0
    assert measure(values, Thresholds(6.0, 0.999)).beyond_sigmas == 16


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2],
        lambda x: x[:, 3:40],
        lambda x: x[:, ::3],
        lambda x: x[:1].expand(50, -1),
        lambda x: x.reshape(30, 4, -1).transpose(1, 2).flatten(1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_any_memory_layout(view: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    base = normal(1200, 120).to(dtype)
    before = base.clone()
    check(view(base), Thresholds(1.0, 1.5))
    assert torch.equal(base, before)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", [0.0, 40.0])
def test_parts_of_the_rows(dtype: torch.dtype, offset: float) -> None:
    values = (normal(200, 10) * torch.linspace(0.1, 9, 200)[:, None] + offset).to(dtype)
    values[7, 3] = math.nan
    thresholds = Thresholds(10.0, 1.5)
    for seed in range(40):
        draw = np.random.default_rng(seed)
        bounds = np.sort(draw.choice(201, 8, replace=False)).reshape(-1, 2).tolist()
        spans = {"none": [], "even": bounds[::2], "empty": [(3, 3)], "odd": bounds[1::2]}
        found = measure_parts(values, Parts(spans, 17), thresholds)
        assert list(found) == ["even", "odd"]
        for part, moments in found.items():
            rows = torch.cat([values[start:stop] for start, stop in spans[part]])
            compare(moments, naive(rows, thresholds))
            alone = measure_parts(values, Parts({0: spans[part]}, 17), thresholds)
            assert repr(alone[0]) == repr(moments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 5000), (50, 1024), (50, 1025), (7, 3000)])
@pytest.mark.parametrize("value", [0.5, -0.0, math.nan, math.inf, -math.inf, 3e38])
def test_what_runs_on_accelerators_finds_what_compiled_loops_do(
    dtype: torch.dtype, shape: tuple[int, int], value: float
) -> None:
    values = (1 + normal(*shape)).to(dtype)
    values[0, 0] *= -1
    values[-1, shape[1] // 2] = value
    part = in_threes(values)
    powers, ranges = np.split(sums_by_operations(values, part), [4], 1)
    powers_too, ranges_too = np.split(power_sums(values, part), [4], 1)
    assert np.array_equal(np.isnan(ranges).any(1), np.isnan(ranges_too).any(1))
    sound = ~np.isnan(ranges).any(1)
    assert np.array_equal(ranges[sound], ranges_too[sound])
    x = values.double().abs()
    scale = np.array([[x[a:b].pow(k).sum() for k in (1, 2, 3, 4)] for a, b in part])
    finite = np.isfinite(powers)
    assert np.array_equal(finite, np.isfinite(powers_too))
    bound = scale[finite] * (1e-6 if dtype == torch.float32 else 1e-14)
    assert (np.abs(powers[finite] - powers_too[finite]) <= bound).all()
    assert np.array_equal(np.isnan(powers), np.isnan(powers_too))
    thresholds = (1.5, 1.0, 1.25)
    assert outside_by_operations(values, part, *thresholds) == count_outside(
        values, part, *thresholds
    )


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (50, 1024), (50, 1025), (7, 3000)])
@pytest.mark.parametrize("value", [0.5, -0.0, math.nan, math.inf, -math.inf, 3e38])
def test_bfloat16_is_read_as_it_lies(shape: tuple[int, int], value: float) -> None:
    values = (1 + normal(*shape)).bfloat16()
    values[-1, shape[1] // 2] = value
    part = in_threes(values)
    wide = power_sums(values.float(), part)
    assert np.array_equal(power_sums(values, part), wide, equal_nan=True)
    thresholds = (1.5, 1.0, 1.25)
    assert count_outside(values, part, *thresholds) == count_outside(
        values.float(), part, *thresholds
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_loops_mean_uncompiled_what_they_do_compiled(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, part = (1 + normal(7, 300)).to(dtype), np.array([[0, 1], [1, 5], [6, 7]])
    thresholds = (1.5, 1.0, 1.25)
    sums = power_sums(values, part)
    outside = count_outside(values, part, *thresholds)
    for name in ("power_sums", "count_outside"):
        monkeypatch.setattr(kernels, name, getattr(kernels, name).py_func)
    uncompiled = power_sums(values, part)
    rtol = 1e-5 if dtype != torch.float64 else 1e-12
    assert np.allclose(sums[:, :4], uncompiled[:, :4], rtol=rtol)
    assert np.array_equal(sums[:, 4:], uncompiled[:, 4:])
    assert count_outside(values, part, *thresholds) == outside


def test_sums_in_blocks_lose_less_than_sums_in_one() -> None:
    # Equal values are rounded the same way over and over again.
    values = torch.full((1, 2**22), 1.1)
    total, squares = power_sums(values, np.array([[0, 1]]))[0, :2]
    assert total == pytest.approx(float(values.double().sum()), rel=3e-5)
    assert squares == pytest.approx(float(values.double().square().sum()), rel=3e-5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_part_has_anything(dtype: torch.dtype) -> None:
    nothing = Parts({"none": [], "empty": [(0, 0)]}, 64)
    assert measure_parts(normal(3, 2).to(dtype), nothing, T) == {}
    assert measure_parts(normal(3, 0).to(dtype), Parts({"all": [(0, 3)]}, 64), T) == {}


def test_gradients_are_left_alone() -> None:
    values = normal(4, 4).float().requires_grad_()
    check(values * 2, Thresholds(1.0, 1.0))
    assert values.grad is None


# -- sums of moments ---------------------------------------------------------------------------


def test_sums_are_those_of_all_values_in_any_order() -> None:
    parts = [scale * normal(40, 8, seed=k) + k / 9 for k, scale in enumerate([1, 3, 0.2, 9, 1, 2])]
    thresholds = Thresholds(4.0, 2.0)
    measured = [measure(part, thresholds) for part in parts]
    together, whole = Moments.sum(measured), naive(torch.cat(parts), thresholds)
    for name in ("count", "max_abs", "beyond"):
        assert getattr(together, name) == whole[name]
    for name in CLOSE:
        assert getattr(together, name) == pytest.approx(whole[name], rel=1e-12), name
    # Of these, each part has its own mean and deviation.
    own = sum(int(naive(part, thresholds)["beyond_sigmas"]) for part in parts)
    assert together.beyond_sigmas == own > 0
    for seed in range(20):
        random.Random(seed).shuffle(measured)
        split = seed % 5 + 1
        again = Moments.sum(measured[:split]) + Moments.sum(measured[split:])
        for name in ("count", "max_abs", "beyond", "beyond_sigmas", "massive"):
            assert getattr(again, name) == getattr(together, name)
        for name in CLOSE:
            assert getattr(again, name) == pytest.approx(getattr(together, name), rel=1e-12)


def test_every_field_is_added() -> None:
    one, two = Moments(1, 2.0, 3.0, 4.0, 5.0, 6.0, 7, 8, 9), Moments(*range(10, 90, 9))
    assert one + two == Moments(11, 21.0, 31.0, 41.0, 51.0, 55, 71, 81, 91)
    assert two + one == one + two
    assert one + Moments() == Moments() + one == one
    assert Moments.sum([]) == Moments()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_maximum_that_is_not_a_number_stays_in_sums(at: int) -> None:
    parts = [Moments(1, max_abs=value) for value in (1.0, 2.0, 3.0)]
    assert Moments.sum(parts).max_abs == 3.0
    parts[at] = Moments(1, max_abs=math.nan)
    assert math.isnan(Moments.sum(parts).max_abs)


# -- kurtosis ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [1, 3])
def test_kurtosis_is_pearsons(dtype: torch.dtype, power: int) -> None:
    values = (normal(500, 100).pow(power) + 0.2).to(dtype)
    expected = scipy.stats.kurtosis(values.double().numpy(), axis=None, fisher=False)
    rel = 1e-5 if dtype == torch.float32 else 1e-12
    assert measure(values, T).kurtosis == pytest.approx(expected, rel=rel)


def test_kurtosis_of_what_is_known() -> None:
    gaussian = measure(normal(1000, 1000), T)
    assert gaussian.kurtosis == pytest.approx(3, abs=0.02)
    assert measure(torch.tensor([[1.0, -1.0]]), T).kurtosis == pytest.approx(1, rel=1e-12)
    even = torch.linspace(-1, 1, 100_001, dtype=torch.float64)[None]
    assert measure(even, T).kurtosis == pytest.approx(1.8, rel=1e-4)
