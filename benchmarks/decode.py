"""Prompts continued by the original and three variants, against the original alone."""

from __future__ import annotations

import statistics
import sys

import torch
from transformers import AutoModelForCausalLM

from benchmarks.timing import seconds
from harness.demo import MODEL_FOLDER
from harness.outliers import Scope, SigmaThreshold
from harness.outliers.intervention import Intervention
from harness.outliers.variants import OutlierEdit
from harness.writing.executors import ONE_BY_ONE, Executor
from harness.writing.generate import generate_batch
from harness.writing.together import Together

BOUND = 2.1
TAKES = "about a minute on two cores"
PROMPTS, TOKENS = 8, 64
_ARGUMENTS = {"max_new_tokens": TOKENS, "do_sample": False}


def ratio(pairs: int = 5, together: bool = True) -> float:
    """Median over interleaved pairs: the embedded model, 8 prompts, 64 new tokens after each.

    Args:
        pairs: How many.
        together: Whether all go as rows of one batch, else one after the other.
    """
    model = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER, dtype="float32").eval()
    five, six = (
        OutlierEdit(SigmaThreshold(sigmas), scope=Scope(matrices_only=True)).find("", model)
        for sigmas in (5.0, 6.0)
    )
    original: dict[str, Intervention | None] = {"original": None}
    variants = {"five": five, "random": five.control(0, model), "six": six}
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, model.config.vocab_size, (PROMPTS, 24), generator=generator)
    executor: Executor = Together(_ARGUMENTS, 0) if together else ONE_BY_ONE

    def write(models: dict[str, Intervention | None]) -> None:
        generate_batch(
            model,
            ids,
            torch.ones_like(ids),
            models,
            _ARGUMENTS,
            0,
            end_ids=(),
            pad_id=0,
            executor=executor,
        )

    def alone() -> None:
        write(original)

    def all_of_them() -> None:
        write(original | variants)

    alone(), all_of_them()
    return statistics.median(seconds(all_of_them) / seconds(alone) for _ in range(pairs))


if __name__ == "__main__":
    print(f"{ratio(together='apart' not in sys.argv):.2f}")
