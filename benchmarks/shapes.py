"""The models that are measured on, by shape: random weights, in one place on one device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from harness.evaluation.design import find_subjects
from harness.models.head import ChunkedHead
from harness.outliers import Scope, TopFraction
from harness.outliers.intervention import Intervention
from harness.outliers.variants import VariantConfig, variants_of

Tensors = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Shape:
    """A Llama, and the batch that it reads.

    Attributes:
        name: What it is called in tables, by its number of weights.
        config: Arguments of `LlamaConfig`.
        rows: Windows of a batch.
        length: Tokens of a window.
    """

    name: str
    config: dict[str, Any]
    rows: int
    length: int


def llama(
    hidden: int, inner: int, layers: int, heads: int, keys: int, **more: Any
) -> dict[str, Any]:
    """The arguments of a `LlamaConfig`, by their usual order."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        **more,
    }


_135M = llama(576, 1536, 30, 9, 3, vocab_size=49_152, tie_word_embeddings=True)
_1B = llama(2048, 8192, 16, 32, 8, vocab_size=128_256, tie_word_embeddings=True)
_8B = llama(4096, 14_336, 32, 32, 8, vocab_size=128_256)

SHAPES = {
    "cpu": (Shape("135M", _135M, 4, 512),),
    "cuda": (
        Shape("135M", _135M, 8, 1024),
        Shape("1B", _1B, 4, 2048),
        Shape("8B", _8B, 2, 2048),
    ),
}
"""Shapes by the kind of device: float32 on the CPU, bfloat16 on a GPU."""


class Bench:
    """A model of a shape on a device, and what is measured of it.

    Args:
        shape: The shape.
        device: `cpu` or `cuda`.
    """

    def __init__(self, shape: Shape, device: str) -> None:
        self.shape = shape
        self.device = device

    @cached_property
    def model(self) -> LlamaForCausalLM:
        """The model, made where it is to be."""
        torch.manual_seed(0)
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        config = LlamaConfig(max_position_embeddings=4096, **self.shape.config)
        with torch.device(self.device):
            return LlamaForCausalLM._from_config(config, dtype=dtype).eval()

    @cached_property
    def head(self) -> ChunkedHead:
        """Its body and tail."""
        return ChunkedHead(self.model)

    @cached_property
    def batch(self) -> Tensors:
        """Input ids, attention mask and targets of windows of which every token is scored."""
        ids = self._ids(self.shape.rows, self.shape.length + 1)
        seen = ids[:, :-1].to(self.device)
        return seen, torch.ones_like(seen), ids[:, 1:]

    @cached_property
    def prompts(self) -> Tensor:
        """Ids of 8 prompts of 24 tokens."""
        return self._ids(8, 24).to(self.device)

    def bare(self) -> None:
        """The model's own forward of the batch, with logits."""
        ids, mask, _ = self.batch
        with torch.inference_mode():
            self.model(ids, attention_mask=mask, use_cache=False)

    def patches(self, variants: int, controls: int) -> dict[str, Intervention]:
        """Variants that zero a ten-thousandth of every matrix, embeddings too, and more.

        Args:
            variants: How many; each edits as much more as the first.
            controls: How many random controls to each.
        """
        configs = {
            f"variant-{number}": VariantConfig(
                criterion=TopFraction(1e-4 * (number + 1)),
                scope=Scope(matrices_only=True),
                controls=controls,
            )
            for number in range(variants)
        }
        subjects = find_subjects(self.model, variants_of(configs), 0)
        return {s.name: s.intervention for s in subjects if s.steps is None}

    def seconds(self, call: Callable[[], object]) -> float:
        """Seconds that a call takes, until the device is done with it."""
        self._wait()
        began = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - began

    def ratio(self, call: Callable[[], object], by: Callable[[], object], pairs: int) -> float:
        """Time of one call by that of another: the median over pairs, one after the other.

        Args:
            call: What is measured.
            by: What it is set beside.
            pairs: How many pairs, after one that does not count.
        """
        return statistics.median(
            [self.seconds(call) / self.seconds(by) for _ in range(pairs + 1)][1:]
        )

    def _ids(self, rows: int, length: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        most = self.shape.config["vocab_size"]
        return torch.randint(0, most, (rows, length), generator=generator)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
