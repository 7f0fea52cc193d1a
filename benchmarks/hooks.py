"""The bare forward with every site observed, against the forward alone."""

from __future__ import annotations

import statistics

import torch

from benchmarks.model import batch, model
from benchmarks.timing import seconds
from harness.probes import Observer, Sites

BOUND = 1.10
TAKES = "about three minutes on two cores"


def ratio(pairs: int = 15) -> float:
    """Median over interleaved pairs; sites are all that are observed by default."""
    llama = model()
    observer = Observer(llama, Sites().find(llama))
    ids, mask, _ = batch()

    @torch.inference_mode()
    def bare() -> None:
        _ = llama(ids, attention_mask=mask, use_cache=False).logits

    def observed() -> None:
        with observer.watching(mask, "original"):
            bare()

    bare(), observed()
    return statistics.median(seconds(observed) / seconds(bare) for _ in range(pairs))
