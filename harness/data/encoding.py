"""From texts to token ids, and which token stands at the beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.data.token_source import TokenSource
from harness.data.windows import BosPlace, BosPolicy
from harness.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENIZED_AT_ONCE = 256


def resolve_bos(policy: BosPolicy, source: TokenSource) -> BosPlace:
    """Settles where a BOS stands: the tokenizer's or, for want of one, its EOS.

    ``auto`` is ``window`` for a tokenizer that adds a BOS by itself, as such models expect one in
    every window; else ``start`` if there is a BOS or EOS token; else ``none``.

    Raises:
        ConfigError: A BOS is asked for, and the tokenizer has neither BOS nor EOS; or the token
            that would be used is none of the model's.
    """
    token = bos_id(source.tokenizer)
    if policy == "none" or (policy == "auto" and token is None):
        return "none"
    if token is None:
        reason = "the tokenizer has neither a BOS nor an EOS token; use none"
        raise ConfigError("data.bos", policy, reason)
    if source.vocabulary is not None and token >= source.vocabulary:
        reason = f"the token has id {token}, where the model has {source.vocabulary} tokens"
        raise ConfigError("data.bos", policy, f"{reason}; use none")
    if policy == "auto":
        bos = source.tokenizer.bos_token_id
        adds_bos = bos is not None and source.tokenizer("a")["input_ids"][:1] == [bos]
        return "window" if adds_bos else "start"
    return policy


def bos_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The BOS of a tokenizer or, for want of one, its EOS; None where it has neither."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    token: int | None = eos if bos is None else bos
    return token


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Tensor]:
    """Tokenizes texts without special tokens, whatever the tokenizer adds by itself.

    Returns:
        Ids of each text, [n] int32; n may exceed what the model can see, windows are cut later.

    Raises:
        ConfigError: The tokenizer fails.
    """
    encoded: list[Tensor] = []
    for first in range(0, len(texts), _TOKENIZED_AT_ONCE):
        some = texts[first : first + _TOKENIZED_AT_ONCE]
        try:
            ids = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
            encoded += [torch.tensor(each, dtype=torch.int32) for each in ids]
        except Exception as error:  # of whatever kind the tokenizer's authors chose
            if len(some) > 1:  # each by itself, so that the one at fault is named
                encoded += [ids for text in some for ids in encode(tokenizer, [text])]
                continue
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            reason = f"fails on the text that begins {some[0][:40]!r}: {told}"
            raise ConfigError("model.tokenizer", tokenizer.name_or_path, reason) from error
    return encoded
