"""Which of several processes this one is, by what a launcher has left in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

# What is left of a launcher in the environment of a process that is alone, Lightning would take for
# this one's place, and be silent, or for the place where others are to be met, and wait there.
_PLACES = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_PROCID",
    "JSM_NAMESPACE_RANK",
)


class Launch(NamedTuple):
    """How this process was started.

    Attributes:
        by: `torchrun`, `srun`, `lightning` for one that the trainer starts, `hand` where each node
            is told its number; empty for a process by itself.
        rank: Which process of the run it is.
        nodes: How many nodes there are; None where that is not told.
        devices: How many processes there are on this node; None where that is not told.
        place: Which of the processes on this node it is.
    """

    by: str = ""
    rank: int = 0
    nodes: int | None = None
    devices: int | None = None
    place: int = 0


def launched(env: Mapping[str, str]) -> Launch:
    """Tells how this process was started.

    Args:
        env: The environment.
    """

    def number(name: str, default: int = 0) -> int:
        value = env.get(name, "")
        return int(value) if value.isdigit() else default

    if "TORCHELASTIC_RUN_ID" in env and number("WORLD_SIZE") > 1:
        here = number("LOCAL_WORLD_SIZE", 1)
        nodes = number("WORLD_SIZE") // here
        return Launch("torchrun", number("RANK"), nodes, here, number("LOCAL_RANK"))
    if number("SLURM_STEP_NUM_TASKS") > 1:
        nodes = number("SLURM_STEP_NUM_NODES", 1)
        here, left = divmod(number("SLURM_STEP_NUM_TASKS"), nodes)
        # Lightning relies on being told, and on as many for each node.
        told = "SLURM_NTASKS_PER_NODE" in env and not left
        rank, place = number("SLURM_PROCID"), number("SLURM_LOCALID")
        return Launch("srun", rank, nodes, here if told else None, place)
    if "MASTER_ADDR" in env and "MASTER_PORT" in env:
        if "LOCAL_RANK" in env and number("WORLD_SIZE") > 1:
            rank = number("RANK", number("NODE_RANK") + number("LOCAL_RANK"))
            return Launch("lightning", rank, place=number("LOCAL_RANK"))
        if "NODE_RANK" in env:
            return Launch("hand", number("NODE_RANK"))
    return Launch()


def settled(launch: Launch, given: Iterable[tuple[str, Any]]) -> Launch:
    """The same, now that it is known what was asked for: one of several has to be told so.

    Args:
        launch: How this process was started, as the environment has it.
        given: Dotted keys and values of the command line and of the files that it names.
    """
    asked = dict(given)
    nodes, devices = (str(asked.get(f"trainer.{key}", 1)) for key in ("num_nodes", "devices"))
    several = nodes != "1" or (launch.by == "lightning" and devices not in ("1", "auto"))
    return launch if several or launch.by not in ("lightning", "hand") else Launch()


def keep_threads(launch: Launch, parent: Path | None = None) -> None:
    """Lets a process have the threads that it would have alone, before torch is imported.

    In how many parts a product of matrices is computed decides its last bits, and results are to be
    the same for any number of processes. torchrun gives each of several one thread, unless the
    user has chosen: then the number stands in the environment that torchrun itself was started in.

    Args:
        launch: How this process was started.
        parent: Where Linux keeps that environment.
    """
    several = launch.by == "torchrun" and (launch.devices or 1) > 1
    if not several or os.environ.get("OMP_NUM_THREADS") != "1":
        return
    with suppress(OSError):
        before = (parent or Path(f"/proc/{os.getppid()}/environ")).read_bytes()
        if any(item.startswith(b"OMP_NUM_THREADS=") for item in before.split(b"\0")):
            return
    del os.environ["OMP_NUM_THREADS"]


def forget() -> None:
    """Removes from the environment of a process by itself what makes it look like one of many."""
    for name in _PLACES:
        os.environ.pop(name, None)
