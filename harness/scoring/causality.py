"""Whether a model predicts a token from those before it alone: else it has no perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from harness.scoring.agreement import logits_agree
from harness.scoring.head import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS = 8


def looks_ahead(model: PreTrainedModel) -> bool:
    """Whether predictions change with a token behind them, as those of BERT and XLNet do.

    Two rows that differ in their last token alone are compared at all places before it. Few models
    need anything forgiven, as both are in one batch: one epsilon of the model's data type.

    Args:
        model: A Hugging Face model with logits [B, T, V].
    """
    embedding: Any = model.get_input_embeddings()
    ids = torch.arange(_TOKENS, device=model.device).repeat(2, 1)
    ids[1, -1] += 1
    ids %= embedding.weight.shape[0]
    with evaluating(model), torch.inference_mode():
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        one, other = model(**inputs, return_dict=True).logits[:, :-1]
    return not logits_agree(one, other, epsilons=1)
