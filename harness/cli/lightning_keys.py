"""Values of Lightning's own keys that it takes, only to fail on them later or to do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace

from harness.cli.launch import Launch
from harness.errors import ConfigError

_LARGEST_SEED = 2**32 - 1
_SPLITS = {"fit": "train", "validate": "val"}  # as the trainer calls them
_FULL = (None, 32, "32", "32-true")


def check_run(command: str, config: Namespace, launch: Launch) -> None:
    """Refuses a run that could not be done, or would do nothing.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        config: Its configuration.
        launch: How this process was started.

    Raises:
        ConfigError: Naming the key, before anything is made or loaded.
    """
    seed, trainer = config.seed_everything, config.trainer
    processes(trainer, launch)
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


def processes(trainer: Namespace, launch: Launch) -> dict[str, Any]:
    """Devices and nodes of the trainer: what a launcher has started; alone, `auto` is one device.

    Args:
        trainer: What is asked for.
        launch: How this process was started.

    Raises:
        ConfigError: If a launcher has started another number, or none where there are to be nodes.
    """
    devices, nodes = trainer.devices, trainer.num_nodes
    if launch.by == "srun" and launch.devices is None:
        reason = "srun has to start as many processes on each node: give it --ntasks-per-node"
        raise ConfigError("trainer.devices", devices, reason)
    if launch.devices is not None and devices not in ("auto", launch.devices, str(launch.devices)):
        reason = f"{launch.by} has started {launch.devices} processes on this node; auto takes them"
        raise ConfigError("trainer.devices", devices, reason)
    if launch.nodes is not None and nodes not in (1, launch.nodes):
        reason = f"{launch.by} has started {launch.nodes} nodes; 1 takes them"
        raise ConfigError("trainer.num_nodes", nodes, reason)
    if nodes > 1 and not launch.by:
        reason = (
            "each node needs NODE_RANK, MASTER_ADDR and MASTER_PORT in its environment; torchrun "
            "and srun set what they need"
        )
        raise ConfigError("trainer.num_nodes", nodes, reason)
    return {
        "devices": (launch.devices or 1) if devices == "auto" else devices,
        "num_nodes": launch.nodes or nodes,
    }


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
