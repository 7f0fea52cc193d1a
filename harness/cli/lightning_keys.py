"""Values of Lightning's own keys that it takes, only to fail on them later or to do nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from jsonargparse import Namespace

from harness.errors import ConfigError

_LARGEST_SEED = 2**32 - 1
_SPLITS = {"fit": "train", "validate": "val"}  # as the trainer calls them
_FULL = (None, 32, "32", "32-true")


def check_run(command: str, config: Namespace) -> None:
    """Refuses a run that could not be done, or would do nothing.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        config: Its configuration.

    Raises:
        ConfigError: Naming the key, before anything is made or loaded.
    """
    seed, trainer = config.seed_everything, config.trainer
    _check_processes(trainer)
    if not isinstance(seed, bool) and not 0 <= seed <= _LARGEST_SEED:
        reason = f"must be a whole number from 0 to {_LARGEST_SEED}, or true or false"
        raise ConfigError("seed_everything", seed, reason)
    limited = f"limit_{_SPLITS.get(command, command)}_batches"
    limit = trainer[limited]
    if limit is not None and not (0 < limit <= 1 or (isinstance(limit, int) and limit > 1)):
        reason = (
            "must be a whole number of batches from 1 on, or a share of them above 0 up to 1.0; "
            "leave it out for everything"
        )
        raise ConfigError(f"trainer.{limited}", limit, reason)
    if command == "fit":
        _check_fit(config)
    elif trainer.precision not in _FULL:
        reason = "the precision of an evaluation is that of the weights; choose it by model.dtype"
        raise ConfigError("trainer.precision", trainer.precision, reason)


def _check_processes(trainer: Namespace) -> None:
    """Lets `auto` take one device, and refuses several: results are exact for one process alone."""
    if trainer.devices == "auto":
        trainer.devices = 1
    for name in ("devices", "num_nodes"):
        if not _is_one(trainer[name]):
            reason = "results are exact for one process alone, on one device; leave it out"
            raise ConfigError(f"trainer.{name}", trainer[name], reason)


def _is_one(devices: list[int] | str | int) -> bool:
    """Whether one device is asked for, by number or by index, as in `0,`; -1 stands for all."""
    text = str(devices).strip("[] ")
    if isinstance(devices, list) or "," in text:
        return len([index for index in text.split(",") if index.strip()]) == 1
    return not text.lstrip("-").isdigit() or int(text) == 1


def _check_fit(config: Namespace) -> None:
    trainer, checkpoint = config.trainer, config.ckpt_path
    ends = trainer.max_steps != -1, trainer.max_epochs not in (None, -1), trainer.fast_dev_run
    if not any(ends):
        reason = (
            "say how long to train, by this or by trainer.max_epochs: the learning rate falls over "
            "a known number of steps"
        )
        raise ConfigError("trainer.max_steps", trainer.max_steps, reason)
    if trainer.overfit_batches:
        reason = "training text has an order of its own; use trainer.limit_train_batches"
        raise ConfigError("trainer.overfit_batches", trainer.overfit_batches, reason)
    for name in ("max_steps", "max_epochs", "accumulate_grad_batches"):
        if trainer[name] == 0:
            raise ConfigError(f"trainer.{name}", 0, "nothing would be learnt; choose at least 1")
    if checkpoint is None:
        return
    if not Path(checkpoint).is_file():
        raise ConfigError("ckpt_path", checkpoint, "no such file")
    try:
        torch.load(checkpoint, map_location="meta", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"cannot be read as a checkpoint of fit ({type(error).__name__})"
        raise ConfigError("ckpt_path", checkpoint, reason) from error
