"""A loaded model is tried on a few tokens, and on one row of the longest, before it is measured."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.base.console import note
from harness.errors import ConfigError
from harness.models.agreement import same_but_for_rounding
from harness.models.head import ChunkedHead, evaluating
from harness.models.pretrained import Pretrained
from harness.models.repository import said

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHORT = 8


def try_out(source: Pretrained, model: PreTrainedModel, longest: int | None = None) -> ChunkedHead:
    """Refuses a model that fails, looks ahead, or cannot take rows of the length that is asked for.

    Limits that a configuration states are believed until here, and not all are right. Of what is
    asked for one row is tried, which costs one forward of the model's body; only where that fails
    the longest row that does not is looked for.

    Args:
        source: Where the model comes from.
        model: The model, on its device.
        longest: Most ids that it will see at once; None to try no such row.

    Returns:
        The model in two parts, ready to score.

    Raises:
        ConfigError: Naming what fails and, where that is a length, what would be accepted.
    """
    if model.device.type == "cpu" and model.dtype == torch.float16:
        note(
            "float16 is slow on a CPU: bfloat16 needs no more memory and a fraction of the time "
            "(--model.dtype bfloat16)"
        )
    limits = [limit for limit in (longest, source.max_positions) if limit is not None]
    short = min([_SHORT, *limits])
    try:
        ahead = looks_ahead(model, short)
        head = ChunkedHead(model, short)
    except Exception as error:  # a model may do anything
        raise source.refused(f"its own forward fails: {said(error)}") from error
    if ahead:
        raise source.refused("its predictions change with what follows: it is not causal")
    if longest is not None and longest > short:
        _try_length(source, head, short, longest)
    return head


def looks_ahead(model: PreTrainedModel, tokens: int = _SHORT) -> bool:
    """Whether predictions change with a token behind them, as those of BERT and XLNet do.

    Of such a model there is no perplexity.

    Two rows that differ in their second half are compared in the first, where they do not. Few
    models need anything forgiven, as both are in one batch; but experts, for one, get other tokens
    beside the same ones, which makes other sums: what the model rounds to by itself is forgiven.

    Args:
        model: A Hugging Face model with logits [B, T, V].
        tokens: Tokens of a row, T, at least 2.
    """
    embedding: Any = model.get_input_embeddings()
    ids = torch.arange(tokens, device=model.device).repeat(2, 1)
    ids[1, tokens // 2 :] += 1
    ids %= embedding.weight.shape[0]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}

    def first_half() -> Tensor:
        logits: Tensor = model(**inputs, return_dict=True).logits
        return logits[:, : tokens // 2]

    with evaluating(model), torch.inference_mode():
        one, other = first_half()
        return not same_but_for_rounding(model, one, other, lambda: first_half()[0], epsilons=1)


def _try_length(source: Pretrained, head: ChunkedHead, short: int, longest: int) -> None:
    if (failure := _failure(source, head, longest)) is None:
        return
    between = range(short + 1, longest)
    fits = short + bisect_left(between, True, key=lambda n: _failure(source, head, n) is not None)
    raise ConfigError(
        "data.max_length",
        longest,
        f"{source.name} fails on a row of so many ids ({said(failure)}), and takes {fits}: choose "
        "at most as many, for prompts with model.generation.max_new_tokens",
    ) from failure


def _failure(source: Pretrained, head: ChunkedHead, length: int) -> Exception | None:
    """What a model raises at a row of some length; None where it takes it."""
    embedding = head.model.get_input_embeddings().weight
    # Padding would not do: some count positions by the tokens that are none.
    padding = source.tokenizer.pad_token_id, getattr(head.model.config, "pad_token_id", None)
    token = next((n for n in range(len(embedding)) if n not in padding), 0)
    ids = torch.full((1, length), token, device=head.model.device)
    try:
        with evaluating(head.model), torch.inference_mode():
            head.body(ids, torch.ones_like(ids))
    except Exception as error:  # as above
        return error
    return None
