"""Batches of windows as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from harness.data.plan import SENTINEL, PlannedBatch
from harness.data.windows import Window

IGNORED = -100
"""Target of a position that is not scored."""


class Batch:
    """Rows that go through the model together: a dataclass whose tensors have a row for each."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The batch for a model on a device; what the model does not see stays on the host.

        Args:
            device: The device.
            non_blocking: Whether to go on before it is there.
        """
        fields: Any = self
        seen = {name: getattr(self, name) for name in ("input_ids", "attention_mask")}
        there = {name: t.to(device, non_blocking=non_blocking) for name, t in seen.items()}
        moved: Self = replace(fields, **there)
        return moved

    def halves(self) -> tuple[Self, Self]:
        """The first half of the rows and the others, padded as they are together."""
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        half = -(-len(next(iter(tensors.values()))) // 2)
        fields: Any = self
        first = replace(fields, **{name: rows[:half] for name, rows in tensors.items()})
        return first, replace(fields, **{name: rows[half:] for name, rows in tensors.items()})


@dataclass
class WindowBatch(Batch):
    """A batch of windows, padded on the right. B windows, T ids.

    Args:
        number: Place in the batch plan, -1 for a sentinel, which counts for nothing.
        windows: Window of each row, [B] int64; -1 in a sentinel.
        units: Unit of resampling of each row, [B] int64; -1 in a sentinel.
        input_ids: What the model sees, [B, T] int64.
        attention_mask: 1 at ids, 0 at padding, [B, T] int64.
        targets: The id that follows each position, [B, T] int64; -100 where none is scored.
        key: What is the same for batches of the same ids, padded alike, of which the same are
            scored, whatever their numbers; empty for a sentinel.
    """

    number: int
    windows: Tensor
    units: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    key: str = ""

    @property
    def step(self) -> int:
        """Number of the batch among all of a run."""
        return self.number

    @property
    def size(self) -> float:
        """How much work it is: ids, padding among them."""
        return self.input_ids.numel()

    @classmethod
    def of(cls, ids: Tensor, number: int = 0) -> WindowBatch:
        """A batch of texts of one length, of which every token but the first is scored.

        Args:
            ids: Token ids, [B, T + 1] int64; each row is a window and a unit of its own.
            number: Place in the batch plan.
        """
        rows = torch.arange(len(ids)) + number * len(ids)
        seen = ids[:, :-1]
        return cls(number, rows, rows, seen, torch.ones_like(seen), ids[:, 1:])

    @classmethod
    def sentinel(cls, pad_id: int = 0) -> WindowBatch:
        """A batch that is run for the sake of other processes, and counts for nothing."""
        # The one position is not masked: attention over nothing would give NaN.
        none, one = torch.tensor([SENTINEL]), torch.ones(1, 1, dtype=torch.int64)
        return cls(SENTINEL, none, none, one * pad_id, one, one * IGNORED)


@dataclass(eq=False)
class WindowRows(Dataset[WindowBatch]):
    """Windows by batch: the index is a planned batch, the item its tensors.

    Args:
        tokens: Token ids of each document, [n] each.
        windows: The windows, which their place in this list numbers.
        unit_of: Unit of resampling of each window.
        bos_id: The id in front of windows that have a BOS.
        pad_id: The id that fills rows up; masked, so that any will do.
        first: Number of the first window.
    """

    tokens: list[Tensor]
    windows: list[Window]
    unit_of: list[int]
    bos_id: int | None
    pad_id: int = 0
    first: int = 0

    @property
    def key(self) -> str:
        """What is the same for equal windows of equal text."""
        cut = torch.tensor([(w.document, w.start, w.stop, w.scored) for w in self.windows])
        return key_of(cut, *self.tokens)

    def __getitem__(self, batch: PlannedBatch) -> WindowBatch:
        """Makes the tensors of one planned batch."""
        number, indices = batch
        if number == SENTINEL:
            return WindowBatch.sentinel(self.pad_id)
        places = [index - self.first for index in indices]
        windows = [self.windows[place] for place in places]
        rows = [window.row(self.tokens[window.document], self.bos_id) for window in windows]
        targets = [row[1:].clone() for row in rows]
        for target, window in zip(targets, windows, strict=True):
            target[: window.length - window.scored] = IGNORED
        padded = (
            pad_sequence([row[:-1] for row in rows], True, self.pad_id),
            pad_sequence([torch.ones_like(row[:-1]) for row in rows], True, 0),
            pad_sequence(targets, True, IGNORED),
        )
        units = torch.tensor([self.unit_of[place] for place in places])
        return WindowBatch(number, torch.tensor(indices), units, *padded, key_of(*padded))


def key_of(*tensors: Tensor) -> str:
    """What is the same for equal tensors, and differs for any others.

    Args:
        tensors: Tensors on the CPU.
    """
    digest = blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
