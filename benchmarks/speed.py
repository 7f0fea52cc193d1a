"""Original and one variant, scored with likelihood, divergence and agreement, against a forward."""

from __future__ import annotations

import statistics

import torch

from benchmarks.model import batch, model, patches
from benchmarks.timing import seconds
from harness.models.head import ChunkedHead
from harness.scoring import score_batch

BOUND = 2.3
TAKES = "about three minutes on two cores"


def ratio(pairs: int = 7) -> float:
    """Median over interleaved pairs of the time to score by the time of the bare forward."""
    llama = model()
    head = ChunkedHead(llama)
    ids, mask, targets = batch()
    variant = patches(llama, variants=1, controls=0)

    @torch.inference_mode()
    def bare() -> None:
        _ = llama(ids, attention_mask=mask, use_cache=False).logits

    def scored() -> None:
        score_batch(head, ids, mask, targets, variant).read()

    bare(), scored()
    return statistics.median(seconds(scored) / seconds(bare) for _ in range(pairs))
