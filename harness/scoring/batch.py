"""One batch, scored by the original and every variant of it.

Legend: B rows of T tokens, N scored positions, D features, V entries of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.base import shards
from harness.base.memory import give_back
from harness.base.sent import Sent
from harness.models.head import ChunkedHead, evaluating
from harness.results.schema import ORIGINAL
from harness.scoring.tokens import (
    Predictions,
    TokenScores,
    token_agreement,
    token_kl,
    token_nll,
)

if TYPE_CHECKING:
    from harness.outliers.intervention import Intervention

Watch = Callable[[str], AbstractContextManager[object]]

IGNORED = -100

# Every chunk reads all weights of the head anew: small ones are slow. And below 32 MiB glibc takes
# memory from its heap, where any little thing left in the room of one makes the next take its own.
_CHUNK_BYTES = 64 * 2**20
_CHUNK_BYTES_ELSEWHERE = 256 * 2**20
_HIDDEN_BYTES = 32 * 2**20
_HIDDEN_SHARE = 1 / 16


class Scores:
    """Scores of a batch by the original and by variants, on their way to the host.

    Args:
        names: The original's, and the variants'.
        found: nll, kl and agreement of each, fp32 [models, 3, N].
    """

    def __init__(self, names: Sequence[str], found: Tensor) -> None:
        self._names = names
        self._sent = Sent(found)

    def read(self) -> dict[str, TokenScores]:
        """Scores by name, the original's first, each over the N scored tokens in row-major order.

        A device that is not done with them is waited for.
        """
        original, *others = self._sent.read()
        scores = {ORIGINAL: TokenScores(original[0])}
        for name, (nll, kl, agree) in zip(self._names[1:], others, strict=True):
            scores[name] = TokenScores(nll, kl, agree != 0)
        return scores


def score_batch(
    head: ChunkedHead,
    input_ids: Tensor,
    attention_mask: Tensor,
    targets: Tensor,
    interventions: Mapping[str, Intervention],
    *,
    watch: Watch = lambda _: nullcontext(),
    chunk_bytes: int | None = None,
    hidden_bytes: int | None = None,
) -> Scores:
    """Scores a batch by the original and by each variant, token by token.

    Bodies run one after the other over the whole batch and leave hidden states of the scored
    positions; then the tail runs over chunks of these, original and variants side by side.
    Variants go in groups whose hidden states fit in memory. No variant's scores depend on which
    others there are, and the weights are afterwards what they were.

    Args:
        head: The model.
        input_ids: Token ids [B, T].
        attention_mask: 1 for tokens, 0 for padding on the right [B, T].
        targets: The token that follows each position, -100 where it is not scored [B, T]; on the
            host, or else they are waited for.
        interventions: What is done to the model, by the variants' names.
        watch: Gives a context for each body's forward by name, in which it can be observed.
        chunk_bytes: Size of one chunk of fp32 logits. None: 64 MiB on the CPU, 256 MiB elsewhere.
        hidden_bytes: Hidden states kept of one group of variants, at least one variant's. None:
            a sixteenth of the weights in a process, but not less than 32 MiB.

    Returns:
        The scores, for which nothing waits before they are read.

    Raises:
        ValueError: If a variant has the original's name.
    """
    if ORIGINAL in interventions:
        raise ValueError(f"a variant cannot be called {ORIGINAL!r}")
    if chunk_bytes is None:
        chunk_bytes = _CHUNK_BYTES if input_ids.device.type == "cpu" else _CHUNK_BYTES_ELSEWHERE
    if hidden_bytes is None:
        hidden_bytes = max(_HIDDEN_BYTES, int(shards.stored(head.model) * _HIDDEN_SHARE))
    with evaluating(head.model), torch.inference_mode():
        batch = _Batch(head, input_ids, attention_mask, targets, chunk_bytes, watch)
        names = (ORIGINAL, *interventions)
        # Made first: small results between one chunk's logits and the next would keep the
        # allocator from using the same memory again, and each chunk would take its own.
        found = batch.empty(len(names))
        scores = dict(zip(names, found, strict=True))
        original = batch.hidden(ORIGINAL, nullcontext())
        size = max(1, hidden_bytes // max(1, original.nbytes))
        size = batch.agree(size)
        for group in _groups(interventions, size):
            batch.score(original, group, scores)
        return Scores(names, found)


class _Batch:
    """The batch, its scored positions, and the passes over them."""

    def __init__(
        self,
        head: ChunkedHead,
        input_ids: Tensor,
        attention_mask: Tensor,
        targets: Tensor,
        chunk_bytes: int,
        watch: Watch,
    ) -> None:
        self.head = head
        self.watch = watch
        self.inputs = (input_ids, attention_mask)
        targets = targets.to("cpu").flatten()
        positions = _scored(targets)
        self.device = input_ids.device
        self.positions = positions.to(self.device, non_blocking=True)
        self.targets = targets[positions].to(self.device, non_blocking=True)
        rows, most_rows = len(self.targets), max(1, chunk_bytes // (4 * head.vocabulary))
        # All of about one size: a last one of a few rows would read the head's weights for those.
        chunks = max(1, math.ceil(rows / most_rows))
        self.chunk_rows = max(1, math.ceil(rows / chunks))
        self.chunks = max(1, math.ceil(rows / self.chunk_rows))

    def empty(self, models: int) -> Tensor:
        """Room for nll, kl and agreement of some models, in one piece, fp32 [models, 3, N]."""
        return torch.empty(models, 3, len(self.targets), device=self.device)

    def agree(self, size: int) -> int:
        """Has processes that run one model in step run body and tail equally often.

        Args:
            size: How many variants go together here.

        Returns:
            How many do in all processes.
        """
        smallest, self.chunks = shards.most(self.head.model, [-size, self.chunks])
        return -smallest

    def hidden(
        self, name: str, patched: AbstractContextManager[object], out: Tensor | None = None
    ) -> Tensor:
        """Hidden states [N, D] of the scored positions, by the body under an intervention."""
        with patched, self.watch(name):
            hidden = self.head.body(*self.inputs).flatten(0, 1)
        return torch.index_select(hidden, 0, self.positions.to(hidden.device), out=out)

    def score(
        self,
        original: Tensor,
        interventions: Mapping[str, Intervention],
        scores: Mapping[str, Tensor],
    ) -> None:
        """Writes the scores of the original and of a group of variants, chunk after chunk."""
        # Made first, for the reason that scores are.
        room = original.new_empty((len(interventions), *original.shape))
        hidden, tails = {}, {}
        for (name, intervention), out in zip(interventions.items(), room, strict=True):
            body, tails[name] = self.head.split(intervention)
            hidden[name] = self.hidden(name, body.applied(self.head.model), out)
        # What bodies worked in would lie beside the logits, which do not fit there.
        give_back()
        # Also where nothing is scored: sharded models wait for one another in the tail.
        for chunk in range(self.chunks):
            rows = slice(chunk * self.chunk_rows, (chunk + 1) * self.chunk_rows)
            self._score_rows(rows, original, hidden, tails, scores)

    def _score_rows(
        self,
        rows: slice,
        original: Tensor,
        hidden: Mapping[str, Tensor],
        tails: Mapping[str, Intervention],
        scores: Mapping[str, Tensor],
    ) -> None:
        reference = Predictions.of(self.head.tail(original[rows]))
        targets = self.targets[rows].to(reference.top.device)
        scores[ORIGINAL][0, rows] = token_nll(reference, targets)
        for name, tail in tails.items():
            with nullcontext() if tail.is_identity else tail.applied(self.head.model):
                variant = Predictions.of(self.head.tail(hidden[name][rows]))
            nll, kl, agree = scores[name]
            nll[rows] = token_nll(variant, targets)
            kl[rows] = token_kl(reference, variant)
            agree[rows] = token_agreement(reference, variant)
            # Or it would still be there while the next one's logits are made.
            del variant


def _scored(targets: Tensor) -> Tensor:
    """Which places of some targets are scored, on the host."""
    return (targets != IGNORED).nonzero().squeeze(1)


def _groups(
    interventions: Mapping[str, Intervention], size: int
) -> Iterator[dict[str, Intervention]]:
    """Interventions in groups of at most `size`; an empty group where there are none."""
    names = list(interventions)
    for start in range(0, max(1, len(names)), size):
        yield {name: interventions[name] for name in names[start : start + size]}
