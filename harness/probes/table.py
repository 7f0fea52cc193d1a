"""The stretches of a batch as a device reads them, where tokens lie being known there alone.

Legend: B rows of T tokens, n = B * T, k stretches, P parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from harness.kernels import layout
from harness.probes.positions import PARTS, Part, Positions

# Stretches of a batch, or not many more: enough to occupy all of a GPU, and so few that each can
# read what all others found.
_STRETCHES = 1024


@dataclass(frozen=True)
class Table:
    """The stretches of a batch, each a row, on a device.

    Attributes:
        keys: The owner and part of the positions of each part [P].
        stretches: Rows as `layout` describes them, int32 [k, `layout.STRETCH`].
        shape: B and T.
    """

    keys: tuple[tuple[str, Part], ...]
    stretches: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, positions: Positions, device: torch.device) -> Table:
        """The stretches of some positions, on a device; nothing waits for it."""
        rows, length = positions.mask.shape
        keys, plan = _plan(positions.owners, length, positions.begins, device)
        mask = positions.mask.to(device, non_blocking=True)
        lengths = mask.sum(1, dtype=torch.int32)
        places = torch.arange(length, dtype=torch.int32, device=device)
        starts = torch.where(mask, places, length).amin(1).to(torch.int32)
        starts = torch.where(lengths > 0, starts, 0)
        text = plan[:, layout.TEXT]
        first = starts[text]
        last = first + lengths[text]
        if positions.begins:
            second = torch.minimum(first + 1, last)
            is_first = plan[:, layout.STOP] < 0
            bounds = torch.where(is_first, first, second), torch.where(is_first, second, last)
            above = torch.where(is_first, length, plan[:, layout.STOP])
        else:
            bounds, above = (first, last), plan[:, layout.STOP]
        begin = torch.maximum(plan[:, layout.START], bounds[0])
        end = torch.maximum(torch.minimum(above, bounds[1]), begin)
        stretches = plan.clone()
        stretches[:, layout.START] = begin + text * length
        stretches[:, layout.STOP] = end + text * length
        return cls(keys, stretches, (rows, length))

    @cached_property
    def parts(self) -> Tensor:
        """The part of each row of a matrix; P for padding, int64 [n]."""
        rows = math.prod(self.shape)
        columns = self.stretches.long().T
        start, stop, part = (columns[k] for k in (layout.START, layout.STOP, layout.PART))
        # Stretches do not overlap: what begins and has not ended is the one that a row lies in.
        change = torch.zeros(rows + 1, dtype=torch.int64, device=part.device)
        inside = part - len(self.keys)
        change.index_add_(0, start, inside)
        change.index_add_(0, stop, -inside)
        return change.cumsum(0)[:rows] + len(self.keys)


@lru_cache(maxsize=16)
def _plan(
    owners: tuple[str, ...], length: int, begins: bool, device: torch.device
) -> tuple[tuple[tuple[str, Part], ...], Tensor]:
    """Parts, and their stretches [k, `layout.STRETCH`], whatever is padding.

    They start and stop within their text; one of a first position, wherever that is, stops at -1.
    """
    longest = max(1, math.ceil(len(owners) * length / _STRETCHES))
    keys = [(owner, part) for owner in dict.fromkeys(owners) for part in PARTS[not begins :]]
    table: list[list[int]] = []
    for number, (owner, part) in enumerate(keys):
        texts = [text for text, name in enumerate(owners) if name == owner]
        ends = [(0, -1)]
        if part == "rest":
            ends = [(at, min(at + longest, length)) for at in range(0, length, longest)]
        first = len(table)
        last = first + len(texts) * len(ends)
        table += [[*span, number, first, last, text] for text in texts for span in ends]
    plan = torch.tensor(table, dtype=torch.int32)
    return tuple(keys), plan.to(device, non_blocking=True)
