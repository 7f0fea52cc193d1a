"""Further arguments of `generate` in transformers: what is refused of them, and a trial."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from harness.base.console import quiet_transformers
from harness.models.repository import first_line, said
from harness.writing.generate import generate_batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_OURS = "the harness gives it itself"
# `generate` would take these, and what is measured would be something else, without a word.
_SPOILING = {
    "encoder_no_repeat_ngram_size": "padding would count as text",
    "encoder_repetition_penalty": "padding would count as text",
    "eos_token_id": _OURS,
    "guidance_scale": "a second pass over each text would be observed as well",
    "max_length": "it would be passed over; set max_new_tokens",
    "max_time": "texts would depend on the speed of the machine",
    "pad_token_id": _OURS,
    "prefill_chunk_size": "pieces of prompts would be observed as new tokens",
    "remove_invalid_values": "logits that are not finite would go unseen",
    "return_dict_in_generate": _OURS,
}
# The second token is the first that is made from a cache, and the third from one that has grown.
_TRIED_TOKENS = 3


def objection(name: str, value: object) -> str | None:
    """Returns why an argument cannot be given, whatever the others are; None where it can."""
    from transformers import GenerationConfig

    if name in _SPOILING:
        return f"is not free: {_SPOILING[name]}"
    if name not in GenerationConfig().to_dict() or name.startswith("_"):
        return "generate of transformers has no such argument"
    if (name, value) == ("cache_implementation", "paged"):
        return "prompts would be batched anew, and their logits and activations not be seen"
    return None


def contradiction(settings: Mapping[str, Any]) -> str | None:
    """Returns what transformers says against some settings by themselves, in one line, or None."""
    from transformers import GenerationConfig

    try:
        with _quietly():
            GenerationConfig(**settings).validate(strict=True)
    except Exception as error:  # of any kind, since values are of any
        return f"transformers refuses it: {_words(error)}"
    return None


def failure(
    model: PreTrainedModel, settings: Mapping[str, Any], *, end_ids: Collection[int], pad_id: int
) -> str | None:
    """Continues two prompts of different length by a few tokens.

    Args:
        model: The model that is measured.
        settings: All arguments of `generate`.
        end_ids: Tokens that end a text.
        pad_id: What fills up texts that have ended.

    Returns:
        In one line what went wrong; None where nothing did.
    """
    device, vocabulary = model.device, len(model.get_input_embeddings().weight)
    token = next((n for n in range(vocabulary) if n not in {*end_ids, pad_id}), 0)
    mask = torch.tensor([[0, 0, 1], [1, 1, 1]], device=device)
    prompts = torch.where(mask.bool(), token, pad_id)
    tokens = min(settings["max_new_tokens"], _TRIED_TOKENS)
    few = {**settings, "max_new_tokens": tokens}
    if settings.get("min_new_tokens") is not None:  # `check` saw that it is not above the most
        few["min_new_tokens"] = min(settings["min_new_tokens"], tokens)
    nothing = {"original": None}
    try:
        with _quietly():
            generate_batch(
                model, prompts, mask, nothing, few, seed=0, end_ids=end_ids, pad_id=pad_id
            )
    except Exception as error:  # of any kind, as above
        return f"generate of transformers fails on it: {_words(error)}"
    return None


def _words(error: Exception) -> str:
    return first_line(error) if isinstance(error, ValueError) else said(error)


@contextmanager
def _quietly() -> Iterator[None]:
    with quiet_transformers(progress=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
