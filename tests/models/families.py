"""Tiny models that make their logits in different ways, and batches for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from harness.outliers import Patch, TensorPatch
from tests.tiny import FAMILIES, VOCABULARY, tiny_model

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}

ALL = [*FAMILIES, "cohere", "granite", "gemma3-multimodal"]


def model_of(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A tiny model with random weights; its logits are scaled, capped or projected."""
    if family in FAMILIES:
        return tiny_model(family, dtype=dtype)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        if family == "gemma3-multimodal":
            text = {**_SIZES, "head_dim": 8}
            config = Gemma3Config(
                text_config=text,
                vision_config=_VISION,
                mm_tokens_per_image=1,
                boi_token_index=250,
                eoi_token_index=251,
                image_token_index=252,
            )
            return Gemma3ForConditionalGeneration(config).to(dtype).eval()
        special = {
            "cohere": CohereConfig(**_SIZES, logit_scale=0.25),
            "granite": GraniteConfig(**_SIZES, logits_scaling=4.0),
        }[family]
        return AutoModelForCausalLM.from_config(special, dtype=dtype).eval()


def batch_of(rows: int = 3, tokens: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and targets; the last row is padded on the right, the first scored from 4 on."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 250, (rows, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[-1, tokens - 5 :] = 0
    ids[-1, tokens - 5 :] = 258
    targets = torch.full_like(ids, -100)
    targets[:, :-1] = torch.where(mask[:, 1:] == 1, ids[:, 1:], -100)
    targets[0, :4] = -100
    return ids, mask, targets


def patch_of(model: PreTrainedModel, values: Mapping[str, Mapping[int, float]]) -> Patch:
    """An intervention that sets entries, by parameter name and flat index."""
    parameters = dict(model.named_parameters())
    tensors = []
    for name, entries in values.items():
        parameter = parameters[name]
        index = torch.tensor(list(entries))
        new = torch.tensor(list(entries.values()), dtype=parameter.dtype)
        old = parameter.detach().flatten()[index]
        tensors.append(TensorPatch(name, tuple(parameter.shape), index, old, new))
    return Patch(tuple(tensors))


class Alone(LlamaForCausalLM):
    """No part of it is said to be the body."""

    base_model_prefix = ""


class AddsTokens(LlamaForCausalLM):
    """Logits depend on the tokens directly, past the hidden states."""

    def forward(self, input_ids: Tensor, **inputs: object) -> CausalLMOutputWithPast:
        output = super().forward(input_ids, **inputs)
        output.logits = output.logits + input_ids[..., None] / 100 * output.logits.sign()
        return output


class WantsMore(LlamaForCausalLM):
    """Logits are made of something other than the last hidden state."""

    def forward(self, input_ids: Tensor, **inputs: object) -> CausalLMOutputWithPast:
        inputs.pop("return_dict", None)
        body = self.model(input_ids, output_hidden_states=True, **inputs)
        return CausalLMOutputWithPast(logits=self.lm_head(body.hidden_states[1]))


class ReachesInside(LlamaForCausalLM):
    """The tail reads a parameter of the body that is tied to none of its own."""

    def forward(self, input_ids: Tensor, **inputs: object) -> CausalLMOutputWithPast:
        inputs.pop("return_dict", None)
        hidden = self.model(input_ids, **inputs).last_hidden_state
        logits = torch.nn.functional.linear(hidden, self.model.embed_tokens.weight)
        return CausalLMOutputWithPast(logits=logits)


def odd_model(kind: type[LlamaForCausalLM]) -> LlamaForCausalLM:
    """A model whose class does something that others do not."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return kind(LlamaConfig(**_SIZES, tie_word_embeddings=False)).eval()
