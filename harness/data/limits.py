"""How many of a command's batches a trainer asks for."""

from __future__ import annotations

from lightning.pytorch import Trainer

from harness.errors import ConfigError

_KEYS = {
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
}


class Limits:
    """The limits of a trainer (``limit_val_batches: 0.1``), which asks for everything meanwhile.

    Lightning would take a number of batches as that of each process, and refuse a share that is
    less than one batch of the prompts.
    """

    def __init__(self) -> None:
        self._asked: dict[str, int | float] = {}

    def take(self, trainer: Trainer | None, command: str, batches: int) -> None:
        """Takes the limit of a command from a trainer.

        Args:
            trainer: The trainer, if any.
            command: What it runs.
            batches: Batches of windows, 0 where there are prompts alone.

        Raises:
            ConfigError: The share of the windows is less than one batch.
        """
        limit = _limit(trainer, command)
        if limit is None:
            return
        if isinstance(limit, float) and batches and int(batches * limit) < 1:
            reason = f"less than one of {batches} batches; choose a larger share"
            raise ConfigError(f"trainer.{_KEYS[command]}", limit, reason)
        self._asked[command] = limit
        setattr(trainer, _KEYS[command], 1.0)

    def give_back(self, trainer: Trainer | None, command: str) -> None:
        """Gives a trainer back the limit that was taken from it."""
        if command in self._asked:
            setattr(trainer, _KEYS[command], self._asked.pop(command))

    def of(self, command: str, batches: int | None) -> int | None:
        """How many batches all processes run together.

        Args:
            command: What is run.
            batches: How many there are; None where nobody knows.

        Returns:
            How many of them are run, at most where nobody knows; None for all of those.
        """
        limit = self._asked.get(command, 1.0)
        if batches is None:
            return limit if isinstance(limit, int) else None
        return min(limit, batches) if isinstance(limit, int) else max(1, int(batches * limit))


def check_streamed(trainer: Trainer | None, command: str) -> None:
    """Refuses to take a share of a text that is streamed.

    Args:
        trainer: The trainer, if any.
        command: What it runs.

    Raises:
        ConfigError: A share is asked for.
    """
    limit = _limit(trainer, command)
    if isinstance(limit, float):
        reason = "of a text that is streamed nobody knows a share; give a number of batches"
        raise ConfigError(f"trainer.{_KEYS[command]}", limit, reason)


def check_interval(trainer: Trainer | None, batches: int) -> None:
    """Refuses to validate each time after more batches than there are between two epochs.

    Args:
        trainer: The trainer, if any.
        batches: Batches of an epoch.

    Raises:
        ConfigError: The interval is longer.
    """
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


def _limit(trainer: Trainer | None, command: str) -> int | float | None:
    """What a trainer asks for of a command; None where it asks for all, or for nothing."""
    limit: int | float | None = getattr(trainer, _KEYS.get(command, ""), None)
    whole = isinstance(limit, float) and not 0.0 < limit < 1.0
    return None if whole else limit or None
