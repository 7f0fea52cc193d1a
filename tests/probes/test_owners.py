"""One pass over rows of several models, against each model's rows alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from harness.probes import Massive, Observation, Observer, Sites, Thresholds
from tests.models.families import model_of
from tests.probes.test_observer import (
    alone,
    batch_of,
    check,
    ends,
    ends_that_differ,
    generate,
    observer_of,
    reference_of,
    stored,
)
from tests.tiny import tiny_model

OWNERS = ("original", "zeroed", "original", "clipped", "zeroed", "zeroed", "original")


def rows_of(owner: str, owners: Sequence[str] = OWNERS) -> list[int]:
    return [row for row, name in enumerate(owners) if name == owner]


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "mixtral"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_site_by_owner_against_stored_activations(family: str, side: str) -> None:
    model = model_of(family)
    ids, mask = batch_of(12, 7, 1, 12, 4, 1, 9, side=side)
    with torch.inference_mode():
        with observer_of(model).watching(mask, OWNERS) as seen:
            model(ids, attention_mask=mask)
        with stored(model) as outputs:
            model(ids, attention_mask=mask)
    assert list(seen.moments) == ["original", "zeroed", "clipped"]
    for owner in seen.moments:
        reference = reference_of(outputs, mask, rows_of(owner))
        check(seen, reference, model, rel=1e-5, off=0, owner=owner)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_generation_by_owner_against_each_text_alone(family: str) -> None:
    model = tiny_model(family)
    ids, mask = batch_of(5, 9, 2, 9, 14, side="left")
    end_ids = ends_that_differ(model, ids, mask)
    lengths = ends(generate(model, ids, mask, end_ids)[:, ids.shape[1] :], end_ids)
    # Of one owner every text ends while others go on.
    owners = ["brief" if length < max(lengths) else "long" for length in lengths]
    assert set(owners) == {"brief", "long"}
    with observer_of(model).generating(mask, end_ids, owners) as seen:
        sequences = generate(model, ids, mask, end_ids)
    for owner in seen.moments:
        own = rows_of(owner, owners)
        reference, _ = alone(model, ids[own], mask[own], sequences[own], end_ids)
        check(seen, reference, model, rel=1e-4, off=2, owner=owner)


# -- bit for bit -------------------------------------------------------------------------------


class Block(nn.Module):
    """Computes each value by itself, so that a row has the same bits whatever is beside it."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.abs()


class RowByRow(nn.Module):
    """Gives values around zero, far from zero, with massive ones, and with NaN for token 9."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(10, 700, dtype=dtype)
        values = torch.randn(10, 700, generator=generator)
        values[1, 3], values[2] = 40.0, values[2] / 50 + 3
        values[9, 5] = torch.nan
        self.embedding.weight.data.copy_(values)
        self.layers = nn.ModuleList([Block(), Block()])

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x)
        return x


def observed(
    dtype: torch.dtype, mask: Tensor, passes: Sequence[Tensor], owners: str | Sequence[str]
) -> Observation:
    """Prompts are read, and continued where there is more than one pass."""
    model = RowByRow(dtype)
    sites = Sites(types=["Embedding"]).find(model)
    observer = Observer(model, sites, Thresholds(2.0, 2.0), Massive(5.0, 20.0))
    reading = observer.watching(mask, owners)
    with reading if len(passes) == 1 else observer.generating(mask, {8}, owners) as seen:
        for ids in passes:
            model(input_ids=ids)
    return seen


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("steps", [0, 4])
def test_as_if_rows_of_each_model_had_been_alone(dtype: torch.dtype, side: str, steps: int) -> None:
    _, mask = batch_of(80, 7, 1, 70, 0, 33, 64, side=side)
    generator = torch.Generator().manual_seed(3)
    passes = [torch.randint(0, 8, mask.shape, generator=generator)]
    passes[0][1, -3:] = passes[0][1, :3] = 9  # NaN in a text of one owner
    passes[0][3] = 2  # and of another all that is far from zero
    passes += [torch.randint(5, 9, (7, 1), generator=generator) for _ in range(steps)]
    together = observed(dtype, mask, passes, OWNERS)
    assert list(together.moments) == ["original", "zeroed", "clipped"]
    for owner, moments in together.moments.items():
        own = rows_of(owner)
        separate = observed(dtype, mask[own], [ids[own] for ids in passes], owner)
        # As text, in which NaN is equal to NaN.
        assert repr(moments) == repr(separate.moments[owner])
    for owner, has_massive in (("original", True), ("zeroed", True), ("clipped", False)):
        massive = sum(each.massive for each in together.moments[owner].values())
        assert (massive > 0) == has_massive


def test_an_owner_without_tokens_has_no_moments() -> None:
    ids, mask = batch_of(5, 0, 3, 0)
    seen = observed(torch.float32, mask, [ids.clamp(max=7)], ["one", "none", "one", "none"])
    assert seen.moments["none"] == {}
    assert seen.moments["one"]


def test_as_many_owners_as_rows() -> None:
    ids, mask = batch_of(5, 3)
    with pytest.raises(ValueError, match="3 owners of 2 rows"):
        observed(torch.float32, mask, [ids.clamp(max=7)], ["one", "two", "three"])
