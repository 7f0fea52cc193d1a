"""The batch plan: made once, the same for any number of processes.

Whole batches are dealt to the ranks, so that the padded width of a row, and with it the last bits
of its result, does not depend on how many ranks there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch.utils.data import Sampler

SENTINEL = -1
"""Number of a batch that is run for the sake of the other ranks and counts for nothing."""

PlannedBatch = tuple[int, list[int]]
"""The number of a batch in the plan and the windows in it; ``(SENTINEL, [])`` for a sentinel."""

T = TypeVar("T")


def plan_batches(lengths: Sequence[int], batch_size: int, first: int = 0) -> list[list[int]]:
    """Cuts windows into batches, longest first.

    Args:
        lengths: Length of each window.
        batch_size: Windows per batch.
        first: Number of the first window.

    Returns:
        Numbers of windows, sorted by (-length, number); the last batch may be smaller.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    numbers = [first + index for index in order]
    return [numbers[start : start + batch_size] for start in range(0, len(order), batch_size)]


def deal(batches: Iterator[T], rank: int, world_size: int) -> Iterator[T | None]:
    """Deals batches whose number is not known to the ranks, one to each in turn.

    Every rank gets equally many, as sharded models and collectives need.

    Args:
        batches: Batches of all ranks; those of one turn are asked for at once.
        rank: Which process this is.
        world_size: How many there are.

    Yields:
        The batches of this rank; None where those of the last turn do not suffice for all.
    """
    while turn := list(islice(batches, world_size)):
        yield turn[rank] if rank < len(turn) else None


@dataclass(eq=False)
class RankBatches(Sampler[PlannedBatch]):
    """The batches of one rank: every ``world_size``-th, filled up with sentinels.

    Every rank gets equally many, as sharded models and collectives need.

    Args:
        plan: Batches of all ranks, from ``plan_batches``.
        rank: Which process this is.
        world_size: How many there are.
    """

    plan: list[list[int]]
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        return -(-len(self.plan) // self.world_size)

    def __iter__(self) -> Iterator[PlannedBatch]:
        for dealt in deal(enumerate(self.plan), self.rank, self.world_size):
            yield dealt or (SENTINEL, [])


class ShuffledBatches(RankBatches):
    """Full batches in random order, a new order each epoch, dealt to the ranks without overlap.

    The order follows the seed that torch was given, which is the same on every rank.

    Args:
        count: Number of windows.
        batch_size: Windows per batch; the remainder of an epoch is left out.
        rank: Which process this is.
        world_size: How many there are.

    Attributes:
        skipped: Batches that are left out at the beginning of the next pass, as those are that were
            trained on before a training was interrupted.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        batches = count // (batch_size * world_size) * world_size
        plan = plan_batches([0] * (batches * batch_size), batch_size)
        super().__init__(plan, rank, world_size)
        self._count = count
        self._seed = torch.initial_seed()
        self._epoch = 0
        self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order; the trainer calls it, so that resumed training sees the same one."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[PlannedBatch]:
        generator = torch.Generator().manual_seed((self._seed + self._epoch) % 2**63)
        order = torch.randperm(self._count, generator=generator).tolist()
        first, self.skipped = self.skipped, 0
        for number, places in islice(super().__iter__(), first, None):
            yield number, [order[place] for place in places]
