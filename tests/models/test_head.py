"""Body and tail against the model's own logits."""

from __future__ import annotations

import contextlib

import pytest
import torch

from harness.models.head import ChunkedHead, evaluating
from tests.models.families import (
    ALL,
    AddsTokens,
    Alone,
    ReachesInside,
    WantsMore,
    batch_of,
    model_of,
    odd_model,
    patch_of,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", ALL)
@torch.inference_mode()
def test_body_and_tail_are_the_model(family: str, dtype: torch.dtype) -> None:
    model = model_of(family, dtype)
    ids, mask, _ = batch_of()
    expected = model(ids, attention_mask=mask).logits
    head = ChunkedHead(model)
    assert head.reason is None
    assert head.vocabulary == expected.shape[-1]
    hidden = head.body(ids, mask)
    assert hidden.shape[-1] < expected.shape[-1]
    found = torch.cat([head.tail(part) for part in hidden.flatten(0, 1).split(5)])
    assert found.dtype == dtype
    scale = expected.float().abs().max()
    error = (found.float() - expected.flatten(0, 1).float()).abs().max()
    assert error <= max(1e-5, 2 * torch.finfo(dtype).eps) * scale


@pytest.mark.parametrize(
    ("kind", "reason"), [(Alone, "no body"), (AddsTokens, "other logits"), (WantsMore, "TypeError")]
)
@torch.inference_mode()
def test_a_model_that_cannot_be_split_gives_its_own_logits(kind: type, reason: str) -> None:
    model = odd_model(kind)
    ids, mask, _ = batch_of()
    head = ChunkedHead(model)
    assert head.reason is not None
    assert reason in head.reason
    assert "\n" not in head.reason
    logits = head.body(ids, mask)
    assert torch.equal(logits, model(ids, attention_mask=mask).logits)
    assert torch.equal(head.tail(logits[0]), logits[0])
    patch = patch_of(model, {"model.norm.weight": {0: 2.0}, "lm_head.weight": {0: 2.0}})
    body, tail = head.split(patch)
    assert (body.names, tail.names) == (patch.names, patch.within([]).names)


def test_a_model_of_nothing_but_nan_is_still_split() -> None:
    model = model_of("llama")
    torch.nn.init.constant_(model.model.norm.weight, torch.nan)
    assert ChunkedHead(model).reason is None


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_patch_is_split_by_what_reads_it(family: str) -> None:
    model = model_of(family)
    tied = family == "gemma2"
    names = ["model.embed_tokens.weight", "model.norm.weight"]
    names += [] if tied else ["lm_head.weight"]
    patch = patch_of(model, {name: {0: 1.0} for name in names})
    body, tail = ChunkedHead(model).split(patch)
    assert list(body.names) == names[:2]
    assert list(tail.names) == [names[0] if tied else names[2]]


def test_an_untied_parameter_of_the_body_that_the_tail_reads_is_in_both() -> None:
    model = odd_model(ReachesInside)
    name = "model.embed_tokens.weight"
    body, tail = ChunkedHead(model).split(patch_of(model, {name: {0: 1.0}}))
    assert list(body.names) == list(tail.names) == [name]


@pytest.mark.parametrize("fails", [False, True])
def test_the_body_gets_its_forward_back(fails: bool) -> None:
    model = model_of("llama")

    def own(*args: object, **kwargs: object) -> object:
        return type(model.model).forward(model.model, *args, **kwargs)

    model.model.forward = own
    head = ChunkedHead(model)
    assert model.model.forward is own
    del model.model.forward
    if fails:
        with pytest.raises(RuntimeError):
            head.tail(torch.zeros(2, 7))
    else:
        head.tail(torch.zeros(2, 32))
    assert "forward" not in vars(model.model)


def test_every_module_keeps_its_mode() -> None:
    model = model_of("gpt2")
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    ChunkedHead(model)
    assert [module.training for module in model.modules()] == modes
    with contextlib.suppress(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == modes
