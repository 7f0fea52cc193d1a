"""Windows: the rows that a text is cut into, and which tokens of a row are scored.

Legend: n tokens in a text, L = ``max_length``. A row with its final target holds up to L + 1 ids
when rolling and L ids otherwise; a model sees all of them but the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.errors import ConfigError

LONGEST = 2048
"""Most ids in a window unless told otherwise."""

Kind = Literal["rolling", "strided", "chunks"]
BosPolicy = Literal["auto", "window", "start", "none"]
BosPlace = Literal["window", "start", "none"]


def check_lengths(
    kind: Kind, max_length: int | None, stride: int | None, positions: int | None = None
) -> None:
    """Refuses windows that a model cannot see at once, or a stride that would lose tokens.

    Args:
        kind: The kind of window.
        max_length: Most ids of a window; None for a default to be found later.
        stride: Tokens from one window to the next; None for a default.
        positions: Most ids that the model can see at once; None where there is no limit.
    """
    if max_length is None:
        return
    if positions is not None and max_length > positions:
        reason = f"beyond the {positions} positions of the model; choose at most {positions}"
        raise ConfigError("data.max_length", max_length, reason)
    if stride is not None and stride > max_length:
        reason = f"above data.max_length={max_length}; tokens between windows would be lost"
        raise ConfigError("data.stride", stride, reason)
    if stride not in (None, max_length) and kind == "chunks":
        reason = "chunks do not overlap; leave it out, or choose data.windows=strided"
        raise ConfigError("data.stride", stride, reason)


@dataclass(frozen=True, slots=True)
class Window:
    """One row: a stretch of a document, the end of which is scored.

    Args:
        document: Index of the document.
        start: First token of the row within the document.
        stop: Token of the document after the last of the row.
        scored: How many tokens at the end of the row are targets; the others are context.
        bos: Whether a beginning-of-sequence token, never scored, stands in front.
    """

    document: int
    start: int
    stop: int
    scored: int
    bos: bool

    @property
    def length(self) -> int:
        """Number of ids that the model sees: the row without its last target."""
        return self.stop - self.start + self.bos - 1

    def row(self, tokens: Tensor, bos_id: int | None) -> Tensor:
        """Returns the ids of the row, [length + 1] int64.

        Args:
            tokens: Token ids of the document, [n].
            bos_id: What stands in front where ``bos`` is true.
        """
        ids = tokens[self.start : self.stop].long()
        return torch.cat([torch.tensor([bos_id]), ids]) if self.bos else ids


@dataclass(frozen=True)
class Layout:
    """How texts are cut into windows, in which each scored token is scored exactly once.

    ``rolling`` is the rule of lm-evaluation-harness (``get_rolling_token_windows`` with a
    ``context_len`` of ``max_length - stride + 1``): the first row scores up to ``max_length``
    tokens, each further one the next ``stride``, and each is filled with as much context in front
    of them as fits. ``strided`` is the loop of the perplexity page of transformers: rows of
    ``max_length`` ids every ``stride`` ids score what no row before them did; the first id of a
    text is not scored, nor that of any row when rows do not overlap. ``chunks`` is the loop of
    GPTQ and Wanda: rows of ``max_length`` ids that do not overlap score all but their first id, and
    the remainder of the text is dropped.

    Args:
        kind: The rule.
        max_length: Most ids a model sees at once, at least 2.
        stride: Tokens from one row to the next, at most ``max_length``; not used by ``chunks``. A
            strided row that begins with a BOS has room for ``max_length - 1`` tokens, which is then
            the longest step.
        bos: ``start`` puts one BOS in front of each text, ``window`` one in front of each row,
            within ``max_length``.
    """

    kind: Kind
    max_length: int
    stride: int
    bos: BosPlace

    def cut(self, n: int, document: int = 0) -> list[Window]:
        """Cuts a document of ``n`` tokens; one that is too short to score gives no windows."""
        lead = int(self.bos == "start")
        each = int(self.bos == "window")
        rule = {"rolling": self._rolling, "strided": self._strided, "chunks": self._chunks}
        # The rules speak of the text with its leading BOS, if any, as id 0.
        return [
            Window(document, max(start - lead, 0), stop - lead, scored, bool(each or start < lead))
            for start, stop, scored in (rule[self.kind](n + lead, each) if n else ())
        ]

    def _rolling(self, n: int, each: int) -> Iterator[tuple[int, int, int]]:
        done = 1 - each
        while done < n:
            step = self.max_length if done == 1 - each else self.stride
            stop = min(done + step, n)
            yield max(0, stop - (self.max_length + 1 - each)), stop, stop - done
            done = stop

    def _strided(self, n: int, each: int) -> Iterator[tuple[int, int, int]]:
        room = self.max_length - each
        done = 0
        for start in range(0, n, min(self.stride, room)):
            stop = min(start + room, n)
            scored = min(stop - done, stop - start - 1 + each)
            if scored:
                yield start, stop, scored
            if stop == n:
                return
            done = stop

    def _chunks(self, n: int, each: int) -> Iterator[tuple[int, int, int]]:
        room = self.max_length - each
        for start in range(0, n - room + 1, room):
            yield start, start + room, room - 1 + each


def choose_layout(
    kind: Kind, max_length: int | None, stride: int | None, bos: BosPlace, positions: int | None
) -> Layout:
    """Settles the lengths that are left open, for a model of so many positions (None: any).

    Raises:
        ConfigError: The lengths do not go together, or the model cannot see as much at once.
    """
    max_length = max_length or min(positions or LONGEST, LONGEST)
    check_lengths(kind, max_length, stride, positions)
    return Layout(kind, max_length, stride or max_length, bos)
