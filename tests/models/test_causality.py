"""Models that see what they predict are told from those that do not."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, BertConfig, XLNetConfig

from harness.models.trials import looks_ahead
from tests.models.families import ALL, model_of

BERT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ALL)
def test_causal_models_do_not(family: str, dtype: torch.dtype) -> None:
    assert not looks_ahead(model_of(family, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("decodes", [False, True])
def test_bert_does_unless_it_is_a_decoder(decodes: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    # Of the usual 0.02 a single layer sees ahead by less than half precision rounds.
    config = BertConfig(**BERT, initializer_range=0.1, is_decoder=decodes)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    assert looks_ahead(model) is not decodes
    assert model.training  # as it was


@pytest.mark.parametrize("bias", [50.0, [-1e4] * 20 + [0.0] * 20], ids=["offset", "masked"])
def test_neither_an_offset_nor_a_masked_vocabulary_hides_it(bias: float | list[float]) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(BertConfig(**BERT))
    with torch.no_grad():
        model.cls.predictions.bias.copy_(torch.tensor(bias))
    assert looks_ahead(model)


def test_xlnet_does() -> None:
    torch.manual_seed(0)
    config = XLNetConfig(vocab_size=40, d_model=16, n_layer=1, n_head=2, d_inner=16)
    assert looks_ahead(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_tells_nothing(value: float) -> None:
    model = model_of("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(value)
    assert not looks_ahead(model)


def test_a_single_token_tells_nothing() -> None:
    model = AutoModelForCausalLM.from_config(BertConfig(**BERT | {"vocab_size": 1}))
    assert not looks_ahead(model)
