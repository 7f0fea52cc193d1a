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

from harness.probes.parts import Parts, Stretches, stretches

Part = Literal["first", "rest"]
"""The first position of each text, where massive activations live, or all others."""

PARTS: tuple[Part, ...] = ("first", "rest")

# Positions to a stretch: so few that one without an outlier is passed over often.
_ROWS = 64


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

    def texts(self, placed: Tensor) -> Iterator[Tensor]:
        """All values of each row that has tokens, one matrix [n, D] a row."""
        for row, (start, stop) in enumerate(self.spans):
            if stop > start:
                yield placed[row, start:stop]

    @cached_property
    def parts(self) -> Parts:
        """The rows [B * T] of the first positions and of the rest, in the order of `PARTS`."""
        first = ((start, min(start + 1, stop)) for start, stop in self.spans if self.begins)
        rest = ((start + int(self.begins), stop) for start, stop in self.spans)
        return Parts([self._stretches(first), self._stretches(rest)])

    def _stretches(self, spans: Iterable[tuple[int, int]]) -> Stretches:
        shifted = (
            (row * self.length + start, row * self.length + stop)
            for row, (start, stop) in enumerate(spans)
        )
        return stretches(shifted, _ROWS)
