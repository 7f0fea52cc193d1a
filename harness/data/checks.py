"""What a tokenizer and a model must agree on: the ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.data.token_source import TokenSource
from harness.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_vocabulary(highest: Iterable[int], source: TokenSource) -> None:
    """Refuses a tokenizer that makes ids which the model does not have.

    Only ids that occur count: some tokenizers know a few more than their model, and never use them.

    Args:
        highest: The highest id of each text.
        source: What made the ids, and the model.
    """
    most = max(highest, default=0)
    if source.vocabulary is not None and most >= source.vocabulary:
        reason = (
            f"makes id {most} of the text, where the model has {source.vocabulary} tokens; give "
            "the tokenizer that belongs to it"
        )
        raise ConfigError("model.tokenizer", source.tokenizer.name_or_path, reason)


def padding_id(tokenizer: PreTrainedTokenizerBase, vocabulary: int | None) -> int:
    """The id that fills rows up: the tokenizer's, or 0 where that is none of the model's.

    Padding is masked, so that any id will do that has an embedding.
    """
    pad = tokenizer.pad_token_id
    return 0 if pad is None or (vocabulary is not None and pad >= vocabulary) else int(pad)
