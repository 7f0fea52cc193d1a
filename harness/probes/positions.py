"""Which rows of a module's output belong to which position of a text.

Legend: B rows of T tokens, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Part = Literal["first", "rest"]
"""The first position of each text, where massive activations live, or all others."""

# Shorter stretches are copied together: one operation each would cost more than the copy.
_STRETCH = 2**13


@dataclass(frozen=True)
class Positions:
    """The tokens of a batch that a forward pass sees, padding left out.

    Attributes:
        spans: Where the tokens of each row lie, (start, stop); equal where it has none.
        length: Number of columns, T.
        begins: Whether a span starts with the first token of its text; not so when text is
            continued token by token.
    """

    spans: tuple[tuple[int, int], ...]
    length: int
    begins: bool = True

    @classmethod
    def of_mask(cls, mask: Tensor) -> Positions:
        """Positions from an attention mask [B, T]: 1 for tokens, which lie side by side, else 0."""
        lengths = mask.sum(1)
        starts = torch.where(lengths > 0, mask.to(torch.uint8).argmax(1), 0)
        spans = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
        return cls(tuple(spans), mask.shape[1])

    @classmethod
    def of_last(cls, alive: Tensor, length: int) -> Positions:
        """The last position of each row that goes on: one step of generation.

        Args:
            alive: Whether the text of a row has not ended, bool [B].
            length: Number of columns, 1 where a cache holds those before.
        """
        spans = ((length - 1, length) if going else (0, 0) for going in alive.tolist())
        return cls(tuple(spans), length, begins=False)

    def placed(self, output: Tensor) -> Tensor | None:
        """A module's output by row and token, [B, T, D].

        Args:
            output: [B, T, ...], [B * T, ...], or [B, heads, T, ...] as norms of queries have it.

        Returns:
            A view where possible; None for an output of any other shape, whose values have no
            place in the text.
        """
        rows, shape = len(self.spans), output.shape
        tokens_first = output.ndim >= 3 and shape[:2] == (rows, self.length)
        heads_first = output.ndim == 4 and (shape[0], shape[2]) == (rows, self.length)
        if tokens_first and heads_first and output.stride(1) < output.stride(2):
            # As many heads as tokens: what was made head by head had its axes swapped.
            tokens_first = False
        if tokens_first:
            return output.flatten(2)
        if heads_first:
            return output.transpose(1, 2).flatten(2)
        if output.ndim >= 2 and shape[0] == rows * self.length:
            return output.reshape(rows, self.length, -1)
        return None

    def part(self, placed: Tensor, part: Part) -> Iterator[Tensor]:
        """The values of a part of the positions, as matrices [n, D].

        Args:
            placed: What `placed` gave, [B, T, D].
            part: Which positions.
        """
        if part == "first":
            if len(self._firsts):
                yield _picked(placed, self._firsts)
        elif len(self._rest) * placed.shape[2] < _STRETCH * len(self.spans):
            if len(self._rest):
                yield _picked(placed, self._rest)
        else:
            skip = int(self.begins)
            for row, (start, stop) in enumerate(self.spans):
                yield placed[row, start + skip : stop]

    def texts(self, placed: Tensor) -> Iterator[Tensor]:
        """All values of each row that has tokens, one matrix [n, D] a row."""
        for row, (start, stop) in enumerate(self.spans):
            if stop > start:
                yield placed[row, start:stop]

    @cached_property
    def _firsts(self) -> Tensor:
        starts = [(row, start) for row, (start, stop) in enumerate(self.spans) if stop > start]
        return self._index(starts if self.begins else [])

    @cached_property
    def _rest(self) -> Tensor:
        skip = int(self.begins)
        return self._index(
            (row, place)
            for row, (start, stop) in enumerate(self.spans)
            for place in range(start + skip, stop)
        )

    def _index(self, places: Iterable[tuple[int, int]]) -> Tensor:
        return torch.tensor([row * self.length + place for row, place in places]).long()


def _picked(placed: Tensor, index: Tensor) -> Tensor:
    return placed.flatten(0, 1).index_select(0, index.to(placed.device))
