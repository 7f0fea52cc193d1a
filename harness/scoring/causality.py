"""Whether a model predicts a token from those before it alone: else it has no perplexity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from harness.scoring.head import evaluating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS = 8


def looks_ahead(model: PreTrainedModel) -> bool:
    """Whether predictions change with a token behind them, as those of BERT and XLNet do.

    Two rows that differ in their last token alone are compared at all places before it. What is
    forgiven, since few models need anything forgiven in one batch, is an epsilon of the model's
    data type of each logit and of how far logits spread, or 1e-4 of that if it is more. The spread
    is their median distance from the median, which neither a bias nor a masked vocabulary moves.

    Args:
        model: A Hugging Face model with logits [B, T, V].
    """
    embedding: Any = model.get_input_embeddings()
    ids = torch.arange(_TOKENS, device=model.device).repeat(2, 1)
    ids[1, -1] += 1
    ids %= embedding.weight.shape[0]
    with evaluating(model), torch.inference_mode():
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
        logits = model(**inputs, return_dict=True).logits[:, :-1]
    one, other = logits.float()
    finite, epsilon = one[one.isfinite()], torch.finfo(logits.dtype).eps
    spread = float((finite - finite.median()).abs().median()) if len(finite) else 0.0
    tolerance = max(1e-4, epsilon) * spread
    return not torch.allclose(one, other, rtol=epsilon, atol=tolerance, equal_nan=True)
