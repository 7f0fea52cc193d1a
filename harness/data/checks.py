"""Values of keys that are refused, and ids that are none of the model's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.data.token_source import TokenSource
from harness.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_choice(key: str, value: str, accepted: Iterable[str]) -> None:
    """Refuses a value that is none of those accepted."""
    if value not in accepted:
        raise ConfigError(f"data.{key}", value, f"choose one of {', '.join(accepted)}")


def check_whole(least: int, **numbers: int | None) -> None:
    """Refuses what is no whole number from `least` on; None is for a default to be found later."""
    for key, value in numbers.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and value >= least):
            raise ConfigError(f"data.{key}", value, f"give a whole number from {least} on")


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
