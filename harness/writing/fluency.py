"""How likely the original holds the texts that it and its variants wrote.

What repeats nothing may still be gibberish: no count of n-grams tells it from prose, but the model
that wrote prose before it was damaged does.

Legend: B prompts, T ids of a prompt with its padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from harness.base import shards
from harness.models.head import ChunkedHead
from harness.results.schema import ORIGINAL
from harness.scoring.batch import IGNORED, score_batch
from harness.writing.generate import Continuation

_Numbered = tuple[int, tuple[int, ...]]
"""Number of a prompt, and the tokens after it."""

_ANY: tuple[_Numbered, ...] = ((0, (0,)),)


def under_original(
    head: ChunkedHead,
    input_ids: Tensor,
    attention_mask: Tensor,
    written: Mapping[str, Sequence[Continuation]],
) -> dict[str, list[Continuation]]:
    """Scores texts by the original, each after its prompt, in one forward for each model's.

    Texts that are the original's own are not scored again, nor those of a model that wrote what
    another did; and no text's score depends on which other variants there are.

    Args:
        head: The original.
        input_ids: Prompts, padded on the left [B, T].
        attention_mask: 1 for tokens, 0 for padding [B, T].
        written: What each model wrote after the prompts, by name, B texts; the original's first.

    Returns:
        The same with the negative log-likelihood of each text that has tokens.
    """
    rows = zip(input_ids, attention_mask.bool(), strict=True)
    prompts = [row[mask].tolist() for row, mask in rows]
    scored: dict[str, list[Continuation]] = {}
    own: dict[_Numbered, float] | None = None
    batches: dict[tuple[_Numbered, ...], list[float]] = {}
    for name, texts in written.items():
        numbered = [(row, text.tokens) for row, text in enumerate(texts)]
        new = tuple(text for text in numbered if text[1] and text not in (own or {}))
        # Where processes run one model in step, all score if one does.
        scores = bool(new) and new not in batches
        if any(shards.most(head.model, [scores])):
            found = _score(head, prompts, new if scores else _ANY)
            if scores:
                batches[new] = found
        batches.setdefault(new, [])
        nll = (own or {}) | dict(zip(new, batches[new], strict=True))
        own = nll if own is None else own
        pairs = zip(texts, numbered, strict=True)
        scored[name] = [text._replace(nll=nll.get(key)) for text, key in pairs]
    return scored


def _score(
    head: ChunkedHead, prompts: Sequence[Sequence[int]], texts: Sequence[_Numbered]
) -> list[float]:
    """Negative log-likelihood of each text after the prompt of its number, summed, nats."""
    width = max(len(prompts[row]) + len(text) for row, text in texts) - 1
    # What stands under the mask is of no account, so that any id will do.
    ids = torch.zeros(len(texts), width, dtype=torch.int64)
    mask, targets = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for place, (row, text) in enumerate(texts):
        whole = torch.tensor([*prompts[row], *text])
        first, end = len(prompts[row]) - 1, len(whole) - 1
        ids[place, :end] = whole[:-1]
        mask[place, :end] = 1
        targets[place, first:end] = whole[first + 1 :]
    ids, mask = ids.to(head.model.device), mask.to(head.model.device)
    scores = score_batch(head, ids, mask, targets, {}).read()[ORIGINAL]
    # Summed in fp64 on the host: some accelerators have no fp64.
    parts = torch.split(scores.nll.double(), [len(text) for _, text in texts])
    return [float(part.sum()) for part in parts]
