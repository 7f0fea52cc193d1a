"""GGUF files as llama.cpp writes them, of the tiny Llama."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants
from transformers import PreTrainedModel

from tests.tiny import tiny_model, tiny_tokenizer

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Q8 = GGMLQuantizationType.Q8_0


def save_gguf(path: Path, *, quantised: bool = False) -> Path:
    """Saves the tiny Llama and its tokenizer in fp32.

    Args:
        path: The file.
        quantised: Whether matrices whose rows 32 divides are stored in 8 bits.
    """
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    tokens = [tokenizer.convert_ids_to_tokens(n) for n in range(config.vocab_size)]
    # The reader wants one pair at least: zero bytes, of which no text has two.
    tokens[-1] = 2 * tokenizer.convert_ids_to_tokens(tokenizer("\0").input_ids)[0]
    writer.add_token_list(tokens)
    special = set(tokenizer.all_special_tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(tokens[-1])])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    for name, values in weights(model, quantised=False).items():
        stored = _stored(name, values, model)
        if quantised and _fits(values):
            writer.add_tensor(_renamed(name), quants.quantize(stored, Q8), raw_dtype=Q8)
        else:
            writer.add_tensor(_renamed(name), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def weights(model: PreTrainedModel, *, quantised: bool) -> dict[str, np.ndarray]:
    """The weights of the tiny Llama, as they come back from 8 bits where they are stored so."""
    found = {name: value.detach().numpy() for name, value in model.named_parameters()}
    if not quantised:
        return found
    return {name: _rounded(values) if _fits(values) else values for name, values in found.items()}


def _rounded(values: np.ndarray) -> np.ndarray:
    return quants.dequantize(quants.quantize(values, Q8), Q8)


def _fits(values: np.ndarray) -> bool:
    return values.ndim == 2 and values.shape[1] % 32 == 0


def _renamed(name: str) -> str:
    for theirs, ours in _NAMES.items():
        name = name.replace(theirs, ours)
    return name.replace("model.layers", "blk")


def _stored(name: str, values: np.ndarray, model: PreTrainedModel) -> np.ndarray:
    """Rows of queries and keys stand pair by pair, where transformers has them half by half."""
    heads = {
        "q_proj": model.config.num_attention_heads,
        "k_proj": model.config.num_key_value_heads,
    }
    for part, count in heads.items():
        if part in name:
            halves = values.reshape(count, 2, -1, values.shape[1])
            return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
    return values
