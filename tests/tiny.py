"""Tiny models with random weights, one for each architecture that the harness is tested on."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCABULARY = 260  # 256 bytes and four special tokens

_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
_GEMMA = _LLAMA | {"head_dim": 8, "sliding_window": 16}

FAMILIES: dict[str, dict[str, object]] = {
    "gemma3": {"model_type": "gemma3_text", **_GEMMA},
    "gemma2": {
        "model_type": "gemma2",
        **_GEMMA,
        "final_logit_softcapping": 2.0,
        "attn_logit_softcapping": 5.0,
    },
    "llama": {"model_type": "llama", **_LLAMA, "tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {
        "model_type": "opt",
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 16,
    },
    "qwen2": {"model_type": "qwen2", **_LLAMA, "tie_word_embeddings": True},
    "mixtral": {
        "model_type": "mixtral",
        **_LLAMA,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
}


def tiny_model(
    family: str, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> PreTrainedModel:
    """A model of the given family with random weights, large enough to have opinions."""
    arguments = {"vocab_size": VOCABULARY, "bos_token_id": 256, "eos_token_id": 257}
    arguments |= {"pad_token_id": 258, "initializer_range": 0.2} | FAMILIES[family]
    config = AutoConfig.for_model(arguments.pop("model_type"), **arguments)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def tiny_tokenizer(*, special: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes: token i is byte-level symbol i, then <bos>, <eos>, <pad>, <unk>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"} if special else {}
    tokenizer.add_special_tokens(list(tokens.values()))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


def save_tiny(folder: Path, family: str = "llama", **options: object) -> Path:
    """Saves a tiny model with its tokenizer as a Hugging Face folder."""
    tiny_model(family, **options).save_pretrained(folder)  # type: ignore[arg-type]
    tiny_tokenizer().save_pretrained(folder)
    return folder
