"""Text generated while every site is observed, against the same unobserved."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from benchmarks.shapes import Bench
from harness.probes import Observer, Sites
from harness.writing.generate import generate_batch

CLAIM = "every site observed while text is generated, by none"
BOUNDS = {"cpu": {"135M": 1.7}, "cuda": {"135M": 1.15, "1B": 1.15, "8B": 1.15}}


def ratio(bench: Bench, pairs: int = 5, tokens: int = 32) -> float:
    """Of 8 prompts and so many new tokens after each, by the original."""
    arguments = {"max_new_tokens": tokens, "do_sample": False}
    ids = bench.prompts
    mask = torch.ones_like(ids)
    observer = Observer(bench.model, Sites().find(bench.model))

    def write(observed: bool) -> None:
        watching = observer.generating(mask, (), "original") if observed else nullcontext()
        with watching as seen:
            generate_batch(
                bench.model, ids, mask, {"original": None}, arguments, 0, end_ids=(), pad_id=0
            )
        assert seen is None or seen.moments

    return bench.ratio(lambda: write(True), lambda: write(False), pairs)
