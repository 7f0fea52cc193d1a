"""What a trainer asks of the data: a share of the batches, and when to validate."""

from __future__ import annotations

from lightning.pytorch import Trainer

from harness.errors import ConfigError

LIMITS = {
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
}
"""Where a trainer says how many batches of a command it asks for."""


def asked_share(trainer: Trainer | None, command: str, batches: int | None) -> float | None:
    """The share of the batches that a trainer asks for (``limit_val_batches: 0.1``).

    Args:
        trainer: The trainer, if any.
        command: What it runs.
        batches: Batches of windows; None where there are prompts alone.

    Returns:
        The share; None where it asks for all or for a number of them.

    Raises:
        ConfigError: The share of the windows is less than one batch.
    """
    limit = getattr(trainer, LIMITS.get(command, ""), None)
    if not isinstance(limit, float) or not 0.0 < limit < 1.0:
        return None
    if batches is not None and int(batches * limit) < 1:
        reason = f"less than one of {batches} batches; choose a larger share"
        raise ConfigError(f"trainer.{LIMITS[command]}", limit, reason)
    return limit


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
