"""Values of the data module's keys that are refused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from harness.data.windows import Kind
from harness.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from transformers import PreTrainedTokenizerBase


def one_of(key: str, value: Any, accepted: tuple[str, ...]) -> None:
    """Refuses a value that is none of those accepted."""
    if value not in accepted:
        raise ConfigError(f"data.{key}", value, f"choose one of {', '.join(accepted)}")


def at_least(key: str, value: Any, least: int) -> None:
    """Refuses what is no whole number from `least` on; None is for a default to be found later."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"data.{key}", value, f"give a whole number from {least} on")


def check_positions(max_length: int, positions: int | None) -> None:
    """Refuses windows that are longer than what a model can see at once."""
    if positions is not None and max_length > positions:
        reason = f"beyond the {positions} positions of the model; choose at most {positions}"
        raise ConfigError("data.max_length", max_length, reason)


def check_splits(splits: Any, commands: tuple[str, ...]) -> None:
    """Refuses splits that are not given by command."""
    if not isinstance(splits, dict):
        raise ConfigError("data.splits", splits, "must be a mapping, such as {test: train}")
    for command in splits:
        one_of("splits", command, commands)


def check_stride(windows: Kind, stride: int | None, max_length: int | None) -> None:
    """Refuses a stride that would lose tokens, or that the kind of window does not have.

    Args:
        windows: The kind of window.
        stride: Tokens from one window to the next; None for a default.
        max_length: Most ids of a window; None for a default to be found later.
    """
    if stride is None or max_length is None:
        return
    if stride > max_length:
        reason = f"above data.max_length={max_length}; tokens between windows would be lost"
        raise ConfigError("data.stride", stride, reason)
    if windows == "chunks" and stride != max_length:
        reason = "chunks do not overlap; leave it out, or choose data.windows=strided"
        raise ConfigError("data.stride", stride, reason)


def check_vocabulary(
    highest: Iterable[int], vocabulary: int | None, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuses a tokenizer that makes ids which the model does not have.

    Only ids that occur count: some tokenizers know a few more than their model, and never use them.

    Args:
        highest: The highest id of each text.
        vocabulary: How many tokens the model has; None where that is not known.
        tokenizer: What made the ids.
    """
    most = max(highest, default=0)
    if vocabulary is not None and most >= vocabulary:
        reason = (
            f"makes id {most} of the text, where the model has {vocabulary} tokens; give the "
            "tokenizer that belongs to it"
        )
        raise ConfigError("model.tokenizer", tokenizer.name_or_path, reason)


def padding_id(tokenizer: PreTrainedTokenizerBase, vocabulary: int | None) -> int:
    """The id that fills rows up: the tokenizer's, or 0 where that is none of the model's.

    Padding is masked, so that any id will do that has an embedding.
    """
    pad = tokenizer.pad_token_id
    return 0 if pad is None or (vocabulary is not None and pad >= vocabulary) else int(pad)


def too_few_windows(batch_size: int, count: int, max_length: int) -> NoReturn:
    """Refuses a training text that does not fill one batch."""
    size = f"{count} windows of {max_length} ids"
    reason = f"the training text has only {size}; choose a smaller batch or max_length"
    raise ConfigError("data.batch_size", batch_size, reason)


def check_validation_interval(trainer: Trainer | None, batches: int) -> None:
    """Refuses to validate each time after more batches than there are between two epochs."""
    if trainer is None or trainer.check_val_every_n_epoch is None or not trainer.limit_val_batches:
        return
    interval, limit = trainer.val_check_interval, trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * (limit or 1.0))
    if isinstance(interval, int) and interval > batches:
        reason = (
            f"an epoch has {batches} batches; choose at most as many, or count from epoch to epoch "
            "with trainer.check_val_every_n_epoch=null"
        )
        raise ConfigError("trainer.val_check_interval", interval, reason)
