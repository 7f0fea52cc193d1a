"""Which rows of a module's output belong to whom, and to which position of a text.

Legend: B rows of T tokens, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from harness.probes.parts import Parts

Part = Literal["first", "rest"]
"""The first position of each text, where massive activations live, or all others."""

PARTS: tuple[Part, ...] = ("first", "rest")

# Positions to a stretch: so few that one without an outlier is passed over often.
_ROWS = 64


@dataclass(frozen=True, eq=False)
class Positions:
    """The tokens of a batch that a forward pass sees, padding left out.

    Attributes:
        owners: Name of the model that each row belongs to.
        mask: Whether there is a token, on any device; those of a row lie side by side, bool [B, T].
        begins: Whether a span starts with the first token of its text; not so when text is
            continued token by token.
    """

    owners: tuple[str, ...]
    mask: Tensor
    begins: bool = True

    @classmethod
    def of_mask(cls, mask: Tensor, owners: str | Sequence[str]) -> Positions:
        """Positions from an attention mask.

        Args:
            mask: 1 for tokens, which lie side by side, else 0 [B, T].
            owners: Name of the model that each row belongs to; one name stands for all rows.

        Raises:
            ValueError: If there are not as many owners as rows.
        """
        rows = len(mask)
        owners = (owners,) * rows if isinstance(owners, str) else tuple(owners)
        if len(owners) != rows:
            raise ValueError(f"{len(owners)} owners of {rows} rows")
        return cls(owners, mask != 0)

    def last(self, alive: Tensor, length: int) -> Positions:
        """The last position of each row that goes on: one step of generation.

        Args:
            alive: Whether the text of a row has not ended, bool [B].
            length: Number of columns, 1 where a cache holds those before.
        """
        mask = alive.new_zeros(len(alive), length)
        mask[:, -1] = alive
        return Positions(self.owners, mask, begins=False)

    @property
    def length(self) -> int:
        """Number of columns, T."""
        return self.mask.shape[1]

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Where the tokens of each row lie, (start, stop); equal where it has none.

        What lies on a device is waited for.
        """
        mask = self.mask.cpu()
        lengths = mask.sum(1)
        starts = torch.where(lengths > 0, mask.to(torch.uint8).argmax(1), 0)
        return tuple(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))

    def by_token(self, output: Tensor) -> Tensor | None:
        """A module's output by row and token, [B, T, D].

        Args:
            output: [B, T, ...], [B * T, ...], or [B, heads, T, ...] as norms of queries have it.

        Returns:
            A view where possible; None for an output of any other shape, whose values have no
            place in the text.
        """
        rows, shape = len(self.mask), output.shape
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

    def texts(self, values: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The owner of each row that has tokens, and its values [n, D], of those by token."""
        for row, (start, stop) in enumerate(self.spans):
            if stop > start:
                yield self.owners[row], values[row, start:stop]

    @cached_property
    def parts(self) -> Parts[tuple[str, Part]]:
        """Of each owner the rows [B * T] of the first positions and of the rest."""
        spans: dict[tuple[str, Part], list[tuple[int, int]]] = {
            (owner, part): [] for owner in dict.fromkeys(self.owners) for part in PARTS
        }
        for row, (owner, span) in enumerate(zip(self.owners, self.spans, strict=True)):
            start, stop = (row * self.length + place for place in span)
            second = min(start + 1, stop) if self.begins else start
            spans[owner, "first"].append((start, second))
            spans[owner, "rest"].append((second, stop))
        return Parts(spans, _ROWS)
