"""What is found on a device is what is found on the CPU, bit for bit, and hardly anything waits."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from harness.outliers import (
    AbsoluteThreshold,
    Clip,
    Criterion,
    Edit,
    Epsilon,
    Patch,
    SigmaThreshold,
    TopFraction,
    Zero,
    patchfile,
)
from harness.outliers.entries import bits
from harness.outliers.rounding import nudged
from harness.outliers.spread import remembered
from harness.outliers.variants import VariantConfig, variants_of
from tests.outliers.away import away, device, sizes, waits
from tests.outliers.models import Awkward, weights

CRITERIA = [
    AbsoluteThreshold(0.1),
    AbsoluteThreshold(5.0),
    AbsoluteThreshold(1e9),
    SigmaThreshold(2.0),
    SigmaThreshold(4.5),
    SigmaThreshold(1e9),
    TopFraction(1e-4),
    TopFraction(3e-3),
    TopFraction(0.3),
]
EDITS = [Zero(), Clip(), Epsilon(0.125)]
INF, NAN = math.inf, math.nan


def model(dtype: torch.dtype) -> nn.Module:
    """Heavy tails, ties, a mean far from zero, values that are no numbers, and odd layouts."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=generator) ** 3).to(dtype)

    dirty = random(100, 111)
    dirty[7, 5], dirty[8, 8], dirty[99, 110], dirty[1, 1] = NAN, INF, -INF, -NAN
    return weights(
        matrix=random(523, 601),
        turned=random(123, 101).t(),
        sliced=random(200, 300)[::2, 1::3],
        cube=random(20, 30, 40).permute(2, 0, 1),
        tied=(random(200, 150) * 2).round() / 2,
        shifted=random(100, 100) * 1e-2 + 1000,
        dirty=dirty,
        vector=random(600),
        scale=random(1)[0].clone(),
        constant=torch.full((50, 60), 0.1, dtype=dtype),
        none=torch.empty(0, 3, dtype=dtype),
    )


def image(patch: Patch) -> list[object]:
    """All that a patch holds, values as bytes."""
    return [
        (each.name, each.shape, part.dtype, bits(part.contiguous()).numpy().tobytes())
        for each in patch.tensors
        for part in (each.index, each.old, each.new)
    ]


def found(of: nn.Module, criterion: Criterion, edit: Edit) -> list[object]:
    """A variant, two controls of it, and how near it came."""
    variant = variants_of({"a": VariantConfig(criterion, edit)})["a"]
    patch = variant.find("a", of, 3)
    assert isinstance(patch, Patch)
    assert patchfile.misfit(patch.tensors, of) is None
    return [image(patch), patch.told, *(image(patch.control(n, of)) for n in range(2))]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors that stand in for a device's, in pieces of 8,192 entries."""
    with device(monkeypatch, 2**13):
        yield


def alike(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, criterion: Criterion, edit: Edit
) -> None:
    here = model(dtype)
    expected = found(here, criterion, edit)
    with device(monkeypatch, 2**13, watched=False):
        assert found(away(here), criterion, edit) == expected


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_finds_what_the_cpu_finds(
    criterion: Criterion, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike(monkeypatch, dtype, criterion, Clip())


@pytest.mark.parametrize("criterion", [CRITERIA[3], CRITERIA[6], CRITERIA[8]], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_in_other_data_types_too(
    criterion: Criterion, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike(monkeypatch, dtype, criterion, Clip())


@pytest.mark.parametrize("edit", [Zero(), Epsilon(0.125)], ids=str)
def test_and_by_other_edits(edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    alike(monkeypatch, torch.bfloat16, SigmaThreshold(3.0), edit)


@pytest.mark.gpu
@pytest.mark.parametrize("edit", EDITS, ids=str)
@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_gpu_finds_what_the_cpu_finds(
    criterion: Criterion, edit: Edit, dtype: torch.dtype
) -> None:
    assert found(model(dtype).cuda(), criterion, edit) == found(model(dtype), criterion, edit)
    assert image(nudged(model(dtype).cuda())) == image(nudged(model(dtype)))


@pytest.mark.usefixtures("elsewhere")
def test_the_smallest_edit_is_the_same_on_a_device() -> None:
    assert image(nudged(away(Awkward()))) == image(nudged(Awkward()))


def several(of: nn.Module, criteria: list[Criterion], controls: int) -> None:
    """Finds variants that clip, and draws controls of each."""
    with remembered():
        for criterion in criteria:
            variant = variants_of({"a": VariantConfig(criterion, Clip())})["a"]
            patch = variant.find("a", of, 3)
            for number in range(controls):
                patch.control(number, of)


def plain() -> nn.Module:
    """Eight parameters of one data type."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(90, 70), (200, 300), (50,), (400, 41), (64, 64), (30, 20, 10), (77,), (500, 100)]
    tensors = [torch.randn(*shape, generator=generator) for shape in shapes]
    return weights(**{f"p{number}": tensor for number, tensor in enumerate(tensors)})


@pytest.mark.usefixtures("elsewhere")
def test_what_is_found_waits_once_per_tensor_and_what_is_drawn_once_in_all() -> None:
    of = away(plain())
    several(of, [AbsoluteThreshold(2.0)], controls=0)
    # Where they are of each tensor; then positions together, old and new values together.
    assert waits == {"nonzero": 8, "cpu": 2}
    waits.clear()
    several(of, [AbsoluteThreshold(2.0)], controls=3)
    assert waits == {"nonzero": 8, "cpu": 2 + 3}


@pytest.mark.usefixtures("elsewhere")
def test_mean_and_deviation_are_asked_for_once_whatever_is_made_of_them() -> None:
    of = away(plain())
    several(of, [SigmaThreshold(2.0), SigmaThreshold(2.5), SigmaThreshold(1.5)], controls=1)
    assert waits == {"tolist": 8, "nonzero": 3 * 8, "cpu": 3 * (2 + 1)}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("fraction", [2e-3, 0.2])
def test_the_largest_are_found_by_few_waits(fraction: float) -> None:
    of = away(plain())
    variant = variants_of({"a": VariantConfig(TopFraction(fraction))})["a"]
    variant.find("a", of, 3)
    assert set(waits) == {"nonzero", "cpu"}
    assert waits["nonzero"] <= 2 * 8
    assert waits["cpu"] == 2


@pytest.mark.usefixtures("elsewhere")
def test_how_near_a_criterion_came_takes_few_waits() -> None:
    of = away(plain())
    several(of, [AbsoluteThreshold(1e9), SigmaThreshold(1e9)], controls=0)
    # Of both: the largest of all tensors, and in one of them the piece and the place.
    assert waits.pop("nonzero") == 2 * 8
    assert waits == {"tolist": 8, "cpu": 2, "_local_scalar_dense": 4}


@pytest.mark.usefixtures("elsewhere")
def test_the_smallest_edit_waits_once() -> None:
    nudged(away(plain()))
    assert waits == {"cpu": 1}


@pytest.mark.parametrize("criterion", [AbsoluteThreshold(6.0), SigmaThreshold(5), TopFraction()])
def test_memory_is_for_a_few_pieces_however_large_a_tensor_is(
    criterion: Criterion, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = torch.randn(1500, 1000, generator=torch.Generator().manual_seed(0))
    with device(monkeypatch, 2**12):
        several(away(weights(large=large)), [criterion], controls=0)
    # A block of sums in double precision is the most; single precision of all would be 6 MB.
    assert max(sizes) <= 2**18 * 8
