"""Prompts continued by the original and three variants, against the original alone."""

from __future__ import annotations

import torch

from benchmarks.shapes import Bench
from harness.outliers.intervention import Intervention
from harness.writing.generate import generate_batch
from harness.writing.together import Together

CLAIM = "8 prompts continued by original and three variants, by the original alone"
BOUNDS = {"cpu": {"135M": 2.1}, "cuda": {"135M": 1.5, "1B": 1.5, "8B": 1.5}}
TOKENS = 64


def ratio(bench: Bench, pairs: int = 5, tokens: int = TOKENS) -> float:
    """Of so many new tokens after each prompt, the likeliest ones."""
    arguments = {"max_new_tokens": tokens, "do_sample": False}
    variants = bench.patches(variants=3, controls=0)
    original: dict[str, Intervention | None] = {"original": None}
    ids = bench.prompts
    executor = Together(arguments, pad_id=0)

    def write(models: dict[str, Intervention | None]) -> None:
        mask, how = torch.ones_like(ids), {"end_ids": (), "pad_id": 0, "executor": executor}
        generate_batch(bench.model, ids, mask, models, arguments, 0, **how)  # type: ignore[arg-type]

    return bench.ratio(lambda: write(original | variants), lambda: write(original), pairs)
