"""Batches of windows as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from harness.data.plan import SENTINEL, PlannedBatch
from harness.data.windows import Window

IGNORED = -100
"""Target of a position that is not scored."""


@dataclass
class WindowBatch:
    """A batch of windows, padded on the right. B windows, T ids.

    Args:
        number: Place in the batch plan, -1 for a sentinel, which counts for nothing.
        windows: Window of each row, [B] int64; -1 in a sentinel.
        units: Unit of resampling of each row, [B] int64; -1 in a sentinel.
        input_ids: What the model sees, [B, T] int64.
        attention_mask: 1 at ids, 0 at padding, [B, T] int64.
        targets: The id that follows each position, [B, T] int64; -100 where none is scored.
    """

    number: int
    windows: Tensor
    units: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor

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


@dataclass(eq=False)
class WindowRows(Dataset[WindowBatch]):
    """Windows by batch: the index is a planned batch, the item its tensors.

    Args:
        tokens: Token ids of each document, [n] each.
        windows: The windows, which their place in this list numbers.
        unit_of: Unit of resampling of each window.
        bos_id: The id in front of windows that have a BOS.
        pad_id: The id that fills rows up; masked, so that any will do.
    """

    tokens: list[Tensor]
    windows: list[Window]
    unit_of: list[int]
    bos_id: int | None
    pad_id: int = 0

    def __getitem__(self, batch: PlannedBatch) -> WindowBatch:
        """Makes the tensors of one planned batch."""
        number, indices = batch
        if number == SENTINEL:
            # The one position is not masked: attention over nothing would give NaN.
            none, one = torch.tensor([SENTINEL]), torch.ones(1, 1, dtype=torch.int64)
            return WindowBatch(SENTINEL, none, none, one * self.pad_id, one, one * IGNORED)
        windows = [self.windows[index] for index in indices]
        rows = [window.row(self.tokens[window.document], self.bos_id) for window in windows]
        targets = [row[1:].clone() for row in rows]
        for target, window in zip(targets, windows, strict=True):
            target[: window.length - window.scored] = IGNORED
        return WindowBatch(
            number,
            torch.tensor(indices),
            torch.tensor([self.unit_of[index] for index in indices]),
            pad_sequence([row[:-1] for row in rows], True, self.pad_id),
            pad_sequence([torch.ones_like(row[:-1]) for row in rows], True, 0),
            pad_sequence(targets, True, IGNORED),
        )
