"""The model that is measured on: the shape of a 135-million-parameter Llama, random weights."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from harness.evaluation.design import find_subjects
from harness.outliers import Scope, TopFraction
from harness.outliers.intervention import Intervention
from harness.outliers.variants import VariantConfig, variants_of

BATCH, LENGTH = 4, 512


def model() -> LlamaForCausalLM:
    """Hidden 576, 30 layers, 9 heads of which 3 for keys and values, tied embeddings, fp32."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49_152,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Input ids, attention mask and targets of 4 windows of 512 tokens, every one scored."""
    ids = torch.randint(0, 49_152, (BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], torch.ones(BATCH, LENGTH, dtype=torch.int64), ids[:, 1:]


def patches(llama: LlamaForCausalLM, variants: int, controls: int) -> dict[str, Intervention]:
    """Variants that zero a ten-thousandth of every matrix, embeddings too, and more; with controls.

    Args:
        llama: The model.
        variants: How many; each edits as much more as the first.
        controls: How many to each.
    """
    configs = {
        f"variant-{number}": VariantConfig(
            criterion=TopFraction(1e-4 * (number + 1)),
            scope=Scope(matrices_only=True),
            controls=controls,
        )
        for number in range(variants)
    }
    subjects = find_subjects(llama, variants_of(configs), 0)
    return {s.name: s.intervention for s in subjects if s.steps is None}
