"""What a model gives that is divided among processes, or whole in one: the same calls for both."""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from harness.base.shards import let_go, local
from harness.data import PromptBatch, WindowBatch
from harness.data.batch import WindowRows
from harness.data.plan import SENTINEL
from harness.evaluation.design import find_subjects
from harness.evaluation.evaluator import Decoding, Evaluator
from harness.evaluation.step import StepResult
from harness.models import Pretrained, Sharding, try_out
from harness.outliers import (
    AbsoluteThreshold,
    Clip,
    Criterion,
    Edit,
    Epsilon,
    Patch,
    Scope,
    SigmaThreshold,
    TopFraction,
    Zero,
)
from harness.outliers.variants import OutlierEdit, Variant
from harness.probes import Massive, Observer, Sites, Thresholds
from harness.scoring import score_batch
from tests.tiny import VOCABULARY

LENGTHS = (30, 21, 21, 9, 2)
"""Of five batches: of two processes one has a batch for the sake of the other."""

VARIANTS = {
    "zeroed": OutlierEdit(SigmaThreshold(2.5), Zero(), controls=2),
    "clipped": OutlierEdit(AbsoluteThreshold(0.6), Clip(), controls=1),
    "top": OutlierEdit(TopFraction(0.01), Epsilon(), Scope(exclude=["*lm_head*"])),
    "nothing": OutlierEdit(AbsoluteThreshold(1000.0), Zero()),
}


@dataclass(frozen=True)
class RowOf(Criterion):
    """All that an embedding holds of one token."""

    token: int

    def select(self, weight: Tensor) -> Tensor:
        chosen = torch.zeros(weight.shape, dtype=torch.bool)
        chosen[self.token] = True
        return chosen


@dataclass(frozen=True)
class Break(Edit):
    """Makes them no numbers."""

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        return weight.new_full(index.shape, torch.nan)


def broken_in_one_batch() -> OutlierEdit:
    """What is broken in the second batch alone, and so in one process alone."""
    plan = [set(batch.input_ids.flatten().tolist()) for batch in batches()]
    others = set().union(*plan[:1], *plan[2:])
    token = min(plan[1] - others - set(range(20)))
    return OutlierEdit(RowOf(token), Break(), Scope(include=["*embed_tokens*"]))


def batches() -> list[WindowBatch]:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, 256, (3, n + 1), generator=generator) for n in LENGTHS]
    return [WindowBatch.of(ids, number) for number, ids in enumerate(rows)]


def prompts() -> list[PromptBatch]:
    ids = torch.tensor([[258, 258, 5, 6], [1, 2, 3, 4]])
    mask = (ids != 258).long()
    return [
        PromptBatch(n, len(LENGTHS) + n, torch.tensor([2 * n, 2 * n + 1]), (ids + n) * mask, mask)
        for n in range(2)
    ]


def sentinel() -> WindowBatch:
    return WindowRows([], [], [], None)[(SENTINEL, [])]


def patch_of(intervention: Any) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    assert isinstance(intervention, Patch)
    return {t.name: (t.index, t.old, t.new) for t in intervention.tensors}


def image(model: nn.Module) -> list[bytes]:
    let_go(model)
    parameters = [local(parameter).detach() for parameter in model.parameters()]
    return [p.contiguous().view(torch.uint8).numpy().tobytes() for p in parameters]


def measured(folder: Path, sharding: Sharding | None, rank: int = 0) -> dict[str, Any]:
    """All that one process of a run has to say.

    Args:
        folder: The model.
        sharding: How it is divided.
        rank: Which of the processes with batches of their own this is.
    """
    world = sharding.data if sharding else 1
    source = Pretrained(str(folder))
    model = source.load(sharding)
    stored = sum(local(parameter).nbytes for parameter in model.parameters())
    head = try_out(source, model, 40)
    variants: dict[str, Variant] = {**VARIANTS}
    if not model.config.tie_word_embeddings:  # or else every batch would be broken
        variants["broken"] = broken_in_one_batch()
    subjects = find_subjects(model, variants, 3)
    before = image(model)
    changed = []
    for subject in subjects:
        with subject.intervention.applied(model):
            changed.append(image(model) != before)
    sites = Sites().find(model)
    observer = Observer(model, sites, Thresholds(0.5, 2.0), Massive(1.0, 5.0))
    decoding = Decoding({"max_new_tokens": 5}, end_ids=[257, 7], pad_id=258)
    evaluator = Evaluator(head, subjects, observer=observer, decoding=decoding)
    steps: list[StepResult] = []
    plan = batches()
    for turn in range(-(-len(plan) // world)):
        number = turn * world + rank
        batch = plan[number] if number < len(plan) else sentinel()
        steps.append(evaluator.step(batch))
    for batch in prompts()[rank::world]:
        steps.append(evaluator.step(batch))
    # Chunks of a few rows and variants one by one, in batches of different length.
    chunks = {}
    for number in (0, 1) if sharding is None else (rank,):
        batch = plan[number]
        scores = score_batch(
            head,
            batch.input_ids,
            batch.attention_mask,
            batch.targets,
            {s.name: s.intervention for s in subjects[:2]},
            chunk_bytes=4 * VOCABULARY * 20,
            hidden_bytes=1 + 40 * rank * 3 * 32 * 4,
        ).read()
        chunks[number] = {name: (s.nll, s.kl) for name, s in scores.items()}
    return {
        "class": source.record(model).class_name,
        "parameters": source.record(model).parameters,
        "split": head.reason,
        "tied": sorted(head._tail_names & head._body_names),
        "stored": stored,
        "subjects": [s.name for s in subjects],
        "patches": {s.name: patch_of(s.intervention) for s in subjects},
        "edits": {s.name: s.edit for s in subjects},
        "changed": changed,
        "restored": image(model) == before,
        "steps": {step.number: step.to_bytes() for step in steps if step.number >= 0},
        "chunks": chunks,
    }


def main() -> None:
    """One process of two: each model, divided in each way."""
    out, ways, *folders = sys.argv[1:]
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    found = {}
    for folder in folders:
        for way in ways.split(","):
            data, tensor = map(int, way.split("x"))
            sharding = Sharding(data, tensor)
            found[Path(folder).name, way] = measured(Path(folder), sharding, rank // tensor)
    with open(f"{out}.{rank}", "wb") as file:
        pickle.dump(found, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
