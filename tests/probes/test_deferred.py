"""What is read once at the end, and what is measured at once: the same, and nothing waits for it.

The path of accelerators, on the CPU: by plain operations, and by kernels in Triton where it is
installed, which are interpreted unless there is a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.base import sent
from harness.probes import Massive, Moments, Observation, Observer, Thresholds, Where, table
from harness.probes import observer as observing
from harness.probes.deferred import Deferred, Looks
from harness.probes.immediate import Immediate
from harness.probes.operations import ByOperations
from harness.probes.positions import Positions
from harness.probes.sites import Site, Sites
from tests.kernels.device import on_device
from tests.probes.test_observer import batch_of, observer_of
from tests.tiny import tiny_model
from tests.waiting import WaitsError, never_waiting

# The interpreter computes with numpy, which warns of what is no number.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
BLOCK, LAYER = Site("layers.0", "residual", 0), Site("layers.0.mlp", "mlp", 0)
THRESHOLDS, MASSIVE = Thresholds(1.5, 2.0), Massive(5.0, 20.0)


def by_operations(thresholds: Thresholds, massive: Massive, *_: object) -> Looks:
    return ByOperations(thresholds, massive)


def by_triton(thresholds: Thresholds, massive: Massive, *_: object) -> Looks:
    from harness.probes.kernels import ByTriton

    return ByTriton(thresholds, massive)


Way = Callable[..., Looks]
installed = find_spec("triton") is not None
without = pytest.mark.skipif(not installed, reason="Triton is not installed")
WAYS = [
    pytest.param(by_operations, id="operations"),
    pytest.param(by_triton, id="triton", marks=without),
]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """Has everything measured as on an accelerator, in one of two ways."""
    monkeypatch.setattr(observing, "looks", request.param)
    monkeypatch.setattr(sent, "is_awaited", lambda device: True)
    # Each takes a while to interpret; and stretches of more than a row are tested as well.
    monkeypatch.setattr(table, "_STRETCHES", 5)
    table._plan.cache_clear()
    if request.param is by_operations:
        # Kernels are interpreted by numpy, which is another matter than a device.
        monkeypatch.setattr(Deferred, "see", never_waiting(Deferred.see))
    yield request.param
    table._plan.cache_clear()


def seen(
    values: Tensor,
    positions: Positions,
    way: Way | None,
    *,
    site: Site = BLOCK,
    thresholds: Thresholds = THRESHOLDS,
    massive: Massive = MASSIVE,
) -> Observation:
    """What is seen in one of two ways, or else at once."""
    observation, how = Observation(), (thresholds, massive)
    meter: Immediate | Deferred = Immediate(observation, *how)
    if way is not None:
        values = on_device(values)
        meter = Deferred(observation, values.device, partial(way, *how))
    meter.see(site, "prefill", positions, values)
    meter.end()
    return observation


def same(found: Observation, wanted: Observation, *, off: int = 0) -> None:
    assert {name: list(seen) for name, seen in found.moments.items() if seen} == {
        name: list(seen) for name, seen in wanted.moments.items() if seen
    }
    for owner, moments in wanted.moments.items():
        for where, one in moments.items():
            alike(found.moments[owner][where], one, off)


def alike(found: Moments, wanted: Moments, off: int = 0) -> None:
    assert (found.count, found.massive) == (wanted.count, wanted.massive)
    assert found.max_abs == pytest.approx(wanted.max_abs, rel=0, abs=0, nan_ok=True)
    assert found.beyond == wanted.beyond
    assert found.beyond_sigmas == pytest.approx(wanted.beyond_sigmas, abs=off)
    if not math.isfinite(wanted.max_abs):
        assert math.isnan(found.std)
        assert math.isnan(found.kurtosis)
        return
    rms = wanted.rms
    assert found.mean == pytest.approx(wanted.mean, rel=1e-5, abs=1e-5 * rms)
    assert found.rms == pytest.approx(rms, rel=1e-5)
    assert found.std == pytest.approx(wanted.std, rel=1e-5)
    # Far from zero digits are lost with the fourth power of mean by standard deviation.
    ratio = abs(wanted.mean) / wanted.std if wanted.std else 0.0
    rel = max(1e-5, 2e-15 * ratio**4)
    assert found.kurtosis == pytest.approx(wanted.kurtosis, rel=rel, nan_ok=True)


def check(
    way: Way, values: Tensor, mask: Tensor, owners: str | Sequence[str] = "a", **how: Any
) -> None:
    positions = Positions.of_mask(mask, owners)
    same(seen(values, positions, way, **how), seen(values, positions, None, **how))


def hidden(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -- against what compiled loops find, which is tested against naive sums ----------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_owners_and_first_positions(way: Way, dtype: torch.dtype, side: str) -> None:
    _, mask = batch_of(6, 3, 1, 0, 5, side=side)
    values = hidden(5, 6, 37)
    values[0, :, 3] *= 40.0  # massive in a text or two
    values[2] /= 50.0
    values[1] *= 3.0
    check(way, values.to(dtype), mask, ["a", "b", "a", "c", "b"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (1, 2, 1000), (2, 1, 1025), (1, 3, 3000)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_odd_shapes(way: Way, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    values = hidden(*shape)
    values[0, 0, 0] = 400.0
    check(way, values.to(dtype), torch.ones(shape[:2]), massive=Massive(100.0, 100.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite(way: Way, dtype: torch.dtype, value: float) -> None:
    values = 2 * hidden(2, 4, 50)
    values[0, 2, 7] = value
    values[0, 0, 3] = 90.0  # massive beside it, unless nobody knows a median
    for owners in (["a", "b"], "a"):
        check(way, values.to(dtype), torch.ones(2, 4), owners)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("ratio", [3.0, 30.0, 1000.0])
def test_values_far_from_zero(way: Way, dtype: torch.dtype, ratio: float) -> None:
    values = -(ratio + hidden(2, 6, 300)).to(dtype)
    check(way, values, torch.ones(2, 6), thresholds=Thresholds(ratio, 2.0), site=LAYER)


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e8, 1e18, 3e30])
def test_fourth_powers_that_single_precision_does_not_hold(way: Way, scale: float) -> None:
    values = (hidden(2, 6, 100) * scale).float()
    thresholds = Thresholds(float(torch.tensor(2 * scale)), 2.0)
    check(way, values, torch.ones(2, 6), thresholds=thresholds, site=LAYER)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e4])
def test_equal_values(way: Way, dtype: torch.dtype, value: float) -> None:
    check(way, torch.full((2, 3, 301), value, dtype=dtype), torch.ones(2, 3))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_thresholds_are_exceeded_strictly(way: Way, dtype: torch.dtype) -> None:
    # Mean 0 and standard deviation 1, all of it exact.
    values = torch.tensor([1.0, -1.0] * 8, dtype=dtype).reshape(1, 1, 16)
    for absolute, sigmas in ((1.0, 1.0), (0.999, 0.999)):
        check(way, values, torch.ones(1, 1), thresholds=Thresholds(absolute, sigmas))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_massive_activations_at_every_threshold(way: Way, dtype: torch.dtype) -> None:
    # Multiples of 1/8, so that many are equal to a threshold, and each product is exact.
    values = (hidden(2, 5, 33) * 8).round().div(8).to(dtype)
    _, mask = batch_of(5, 4)
    for absolute, ratio in ((0.125, 1.0), (1.0, 1.5), (1.0, 3.0), (100.0, 1.0)):
        check(way, values, mask, ["a", "b"], massive=Massive(absolute, ratio))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 1),
        lambda x: x[:, :, 3:40],
        lambda x: x[:, :, ::3],
        lambda x: x[:1].expand(4, -1, -1),
    ],
)
def test_any_memory_layout(way: Way, view: Callable[[Tensor], Tensor]) -> None:
    base = hidden(3, 4, 50).bfloat16()
    before = base.clone()
    values = view(base)
    check(way, values, torch.ones(values.shape[:2]))
    assert torch.equal(base, before)


def test_no_values_and_no_tokens(way: Way) -> None:
    for mask in (torch.ones(2, 3), torch.zeros(2, 3)):
        for width in (0, 4):
            check(way, hidden(2, 3, width), mask)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_single_value_that_is_infinite_is_massive(way: Way, at_once: bool) -> None:
    values = hidden(2, 3, 4).float()
    values[0, 1, 2] = math.inf
    positions = Positions.of_mask(torch.ones(2, 3), "a")
    found = seen(values, positions, None if at_once else way)
    assert {where.part: m.massive for where, m in found.moments["a"].items()} == {
        "first": 0,
        "rest": 1,
    }


# -- many rows ---------------------------------------------------------------------------------


def test_as_many_rows_as_make_stretches_long() -> None:
    """More rows than stretches; by operations only, since many stretches take long to interpret."""
    _, mask = batch_of(900, 17, 0, 700, 431)
    values = (hidden(5, 900, 3) + 0.2).float()
    positions = Positions.of_mask(mask, ["a", "b", "a", "b", "b"])
    same(seen(values, positions, by_operations), seen(values, positions, None))


# -- whole models ------------------------------------------------------------------------------


def observed(model: nn.Module, ids: Tensor, mask: Tensor, owners: Sequence[str]) -> Observation:
    sites = Sites(include=["model.layers.1*", "model.norm"])
    with torch.inference_mode(), observer_of(model, sites).watching(mask, owners) as found:
        model(ids, attention_mask=mask)
    return found


def test_a_model_is_observed_as_on_the_cpu(way: Way) -> None:
    model = tiny_model("llama")
    ids, mask = batch_of(5, 2, 4)
    found = observed(model, ids, mask, ["a", "b", "a"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sent, "is_awaited", lambda device: False)
        wanted = observed(model, ids, mask, ["a", "b", "a"])
    same(found, wanted)
    assert not found.unplaced


def continued(model: nn.Module) -> Observation:
    ids, mask = batch_of(3, 5, side="left")
    sites = Sites(types=[], include=["model.layers.1"])
    with observer_of(model, sites).generating(mask, {7}, ["a", "b"]) as found:
        model.generate(  # type: ignore[operator]
            ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0
        )
    return found


def test_texts_that_are_continued(way: Way) -> None:
    model = tiny_model("llama")
    found = continued(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sent, "is_awaited", lambda device: False)
        wanted = continued(model)
    same(found, wanted)
    assert {where.phase for where in found.moments["a"]} == {"prefill", "decode"}


class Gives(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Identity()])

    def forward(self, x: Tensor, input_ids: Tensor) -> Tensor:
        hidden: Tensor = self.layers[0](x)
        return hidden


def test_a_text_that_ends_is_left_out_from_then_on(way: Way) -> None:
    model, mask = Gives(), torch.ones(2, 3)
    observer = Observer(model, [Site("layers.0", "mlp", 0)], THRESHOLDS, MASSIVE)
    with observer.generating(mask, {7}, ["a", "b"]) as found:
        model(x=hidden(2, 3, 4), input_ids=torch.ones(2, 3))
        for last in ([1, 1], [1, 7], [1, 1]):
            model(x=hidden(2, 1, 4), input_ids=torch.tensor(last)[:, None])
    where = Where(observer.sites[0], "decode", "rest")
    assert [found.moments[owner][where].count for owner in "ab"] == [12, 4]


def test_nothing_is_known_until_the_end(way: Way) -> None:
    values, positions = hidden(1, 3, 4), Positions.of_mask(torch.ones(1, 3), "a")
    observation, values = Observation(), on_device(values)
    meter = Deferred(observation, values.device, partial(way, THRESHOLDS, MASSIVE))
    for name in "abc":
        meter.see(Site(name, "mlp", 0), "prefill", positions, values)
    assert not observation.moments
    meter.end()
    assert len(observation.moments["a"]) == 6


def test_more_outputs_than_a_page_holds_and_parts_that_change() -> None:
    observation, values = Observation(), hidden(2, 3, 4)
    meter = Deferred(observation, values.device, partial(by_operations, THRESHOLDS, MASSIVE))
    both = (Positions.of_mask(torch.ones(2, 3), owners) for owners in (["a", "a"], ["a", "b"]))
    for positions, calls in zip(both, (130, 3), strict=True):
        for _ in range(calls):
            meter.see(LAYER, "prefill", positions, values)
    meter.end()
    counts = [m.count for owner in "ab" for m in observation.moments[owner].values()]
    assert counts == [130 * 8 + 3 * 4, 130 * 16 + 3 * 8, 3 * 4, 3 * 8]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_gpu_is_not_waited_for_within_a_forward_pass(dtype: torch.dtype) -> None:
    model = tiny_model("llama").to("cuda", dtype)
    ids, mask = (each.to("cuda") for each in batch_of(5, 2, 4))
    for _ in range(2):  # kernels are compiled, and tried, where they run first
        with torch.inference_mode(), observer_of(model).watching(mask, "a") as found:
            model(ids, attention_mask=mask)
    watching = observer_of(model).watching(mask, "a")
    with torch.inference_mode(), watching as found:
        hooks = [module._forward_hooks for module in model.modules() if module._forward_hooks]
        for of_module in hooks:
            for key, hook in of_module.items():
                of_module[key] = unsynchronised(hook)
        model(ids, attention_mask=mask)
    assert found.moments["a"]


def unsynchronised(hook: Callable[..., object]) -> Callable[..., object]:
    """The hook, failing where it waits for the GPU."""

    def wrapped(*args: object) -> object:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return hook(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    return wrapped


# -- the mode that fails -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: int(x.sum()),
        lambda x: float(x.sum()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: x.masked_select(x > 0),
        lambda x: 1 if x.sum() > 0 else 2,
    ],
)
def test_asking_for_a_number_is_noticed(asks: Callable[[Tensor], object]) -> None:
    with pytest.raises(WaitsError):
        never_waiting(asks)(torch.ones(3))


def test_measuring_at_once_is_noticed() -> None:
    meter = Immediate(Observation(), THRESHOLDS, MASSIVE)
    positions = Positions.of_mask(torch.ones(1, 3), "a")
    with pytest.raises(WaitsError):
        never_waiting(meter.see)(BLOCK, "prefill", positions, hidden(1, 3, 4))
