"""Patches for models that write together, and what they write one after the other and together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.outliers import Patch
from harness.outliers.intervention import Intervention
from harness.writing.generate import Continuation, generate_batch
from harness.writing.together import Together
from tests.models.families import patch_of

END, PAD = 257, 258
NEW = 10
GREEDY = {"max_new_tokens": NEW, "do_sample": False}
SAMPLED = {"max_new_tokens": NEW, "do_sample": True, "temperature": 1.3, "top_k": 0}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": GREEDY,
    "sampled": SAMPLED,
    "nucleus": SAMPLED | {"top_k": 20, "top_p": 0.9, "min_p": 0.01},
    "penalised": GREEDY | {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "at least": GREEDY | {"min_new_tokens": 6},
}

Interventions = Mapping[str, Intervention | None]


def batch() -> tuple[Tensor, Tensor]:
    """Five prompts of different lengths, padded on the left."""
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([3, 17, 8, 1, 11])
    mask = (torch.arange(17) >= 17 - lengths[:, None]).long()
    return torch.randint(0, 250, mask.shape, generator=generator).where(mask.bool(), PAD), mask


def changed(
    model: PreTrainedModel, picks: Callable[[str], bool] = lambda _: True, seed: int = 0
) -> Patch:
    """A patch that moves a few entries of every parameter whose name is picked, far enough."""
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for name, weight in model.named_parameters():
        if picks(name):
            size = weight.numel()
            count = min(size, max(2, size // 100))
            index = torch.randperm(size, generator=generator)[:count].sort().values
            spread = float(weight.detach().float().std()) or 0.2
            new = torch.randn(count, generator=generator) * 3 * spread
            values[name] = dict(zip(index.tolist(), new.tolist(), strict=True))
    return patch_of(model, values)


def variants(model: PreTrainedModel) -> dict[str, Intervention | None]:
    """The original, and patches of all kinds of parameters; one that does nothing."""
    return {
        "original": None,
        "everywhere": changed(model, seed=1),
        "tokens": changed(model, lambda name: "embed" in name or "wte" in name, 2),
        "nothing": Patch(),
        "small": changed(model, lambda name: "norm" in name or "ln_" in name or "bias" in name, 3),
    }


def write(
    model: PreTrainedModel,
    models: Interventions,
    arguments: Mapping[str, Any] = GREEDY,
    **options: Any,
) -> dict[str, list[Continuation]]:
    """What models write after the prompts."""
    options = {"end_ids": {END}, "pad_id": PAD} | options
    return generate_batch(model, *batch(), models, arguments, 7, **options)


def together(arguments: Mapping[str, Any] = GREEDY) -> Together:
    """An executor that lets them write together."""
    return Together(arguments, PAD)
