"""Whether a model predicts a token from those before it alone: else it has no perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.models.agreement import same_but_for_rounding
from harness.models.head import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def looks_ahead(model: PreTrainedModel, tokens: int = 8) -> bool:
    """Whether predictions change with a token behind them, as those of BERT and XLNet do.

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
