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

    Two rows that differ in their last token alone are compared at all places before it: logits may
    differ by 1e-5 of the largest (4 epsilon of the model's data type if that is more).

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
    finite = one[one.isfinite()]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    tolerance = max(1e-5, 4 * torch.finfo(logits.dtype).eps) * largest
    return not torch.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)
