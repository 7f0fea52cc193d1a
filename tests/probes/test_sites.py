"""Which modules are observed, against lists made from the classes of the modules."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.errors import ConfigError
from harness.probes import RESIDUAL, Site, Sites
from harness.probes.sites import decoder_blocks, kind_and_layer
from tests.models.families import ALL, model_of

BLOCKS = {
    "gemma3": "model.layers",
    "gemma2": "model.layers",
    "llama": "model.layers",
    "gpt2": "transformer.h",
    "opt": "model.decoder.layers",
    "qwen2": "model.layers",
    "mixtral": "model.layers",
    "cohere": "model.layers",
    "granite": "model.layers",
    "gemma3-multimodal": "model.language_model.layers",
}
LLAMA = {
    "residual",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "input_layernorm",
    "post_attention_layernorm",
}
FEEDFORWARD_NORMS = {"pre_feedforward_layernorm", "post_feedforward_layernorm"}
GATED = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}
KINDS = {
    "gemma3": LLAMA | FEEDFORWARD_NORMS | {"self_attn.q_norm", "self_attn.k_norm"},
    "gemma2": LLAMA | FEEDFORWARD_NORMS,
    "llama": LLAMA,
    "gpt2": {
        "residual",
        "ln_1",
        "attn.c_attn",
        "attn.c_proj",
        "ln_2",
        "mlp.c_fc",
        "mlp.c_proj",
    },
    "opt": {
        "residual",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "self_attn_layer_norm",
        "fc1",
        "fc2",
        "final_layer_norm",
    },
    "qwen2": LLAMA,
    "mixtral": LLAMA - GATED | {"mlp", "mlp.experts"},
    "cohere": LLAMA - {"post_attention_layernorm"},
    "granite": LLAMA,
    "gemma3-multimodal": LLAMA | FEEDFORWARD_NORMS | {"self_attn.q_norm", "self_attn.k_norm"},
}
OUTSIDE = {
    "gpt2": {"transformer.ln_f"},
    "opt": {
        "model.decoder.project_in",
        "model.decoder.project_out",
        "model.decoder.final_layer_norm",
    },
    "gemma3-multimodal": {
        "model.language_model.norm",
        "model.multi_modal_projector.mm_soft_emb_norm",
    },
}


def expected_names(model: PreTrainedModel) -> list[str]:
    """Names of all modules of the classes that are observed, in order."""
    head = model.get_output_embeddings()
    names = []
    for name, module in model.named_modules():
        own = type(module).__name__
        layer = isinstance(module, nn.Linear) or own == "Conv1D"
        norm = own.endswith(("LayerNorm", "RMSNorm"))
        block = own.endswith(("DecoderLayer", "GPT2Block"))
        experts = own.endswith(("Experts", "SparseMoeBlock"))
        if module is not head and (layer or norm or block or experts):
            names.append(name)
    return names


@pytest.mark.parametrize("family", ALL)
def test_every_layer_norm_and_block_is_a_site_and_nothing_else(family: str) -> None:
    model = model_of(family)
    sites = Sites().find(model)
    assert [site.name for site in sites] == expected_names(model)
    assert len(set(sites)) == len(sites)
    assert "lm_head" not in {site.name for site in sites}


@pytest.mark.parametrize("family", ALL)
def test_kinds_and_layers(family: str) -> None:
    sites = Sites().find(model_of(family))
    inside = [site for site in sites if site.layer is not None]
    assert Counter((site.kind, site.layer) for site in inside) == Counter(
        (kind, layer) for kind in KINDS[family] for layer in (0, 1)
    )
    for site in inside:
        block = f"{BLOCKS[family]}.{site.layer}"
        assert site.name == (block if site.kind == RESIDUAL else f"{block}.{site.kind}")
    outside = {site.name: site.kind for site in sites if site.layer is None}
    text = {name: kind for name, kind in outside.items() if "vision" not in name}
    assert text == {name: name for name in OUTSIDE.get(family, {"model.norm"})}
    # Of the tower that sees pictures, layers share a kind too.
    tower = [kind for name, kind in outside.items() if "vision" in name]
    assert bool(tower) == (family == "gemma3-multimodal")
    assert not any(part.isdigit() for kind in tower for part in kind.split("."))


@pytest.mark.parametrize("family", ALL)
def test_the_same_without_weights(family: str) -> None:
    model = model_of(family)
    with torch.device("meta"):
        if family == "gemma3-multimodal":
            skeleton = type(model)(model.config)
        else:
            skeleton = AutoModelForCausalLM.from_config(model.config)
    assert {parameter.device.type for parameter in skeleton.parameters()} == {"meta"}
    assert Sites().find(skeleton) == Sites().find(model)


# -- patterns ----------------------------------------------------------------------------------


def names(sites: Sites, family: str = "llama") -> list[str]:
    return [site.name for site in sites.find(model_of(family))]


def test_include_and_exclude() -> None:
    down = ["model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"]
    assert names(Sites(include=["*.mlp.down_proj"])) == down
    assert names(Sites(include=["*.mlp.*"], exclude=["*.1.*", "*gate*", "*.up_proj"])) == down[:1]
    everything = names(Sites())
    assert names(Sites(exclude=["*.down_proj"])) == [n for n in everything if n not in down]
    assert names(Sites(include=["model.norm", "*.down_proj"])) == [*down, "model.norm"]


def test_types() -> None:
    blocks = ["model.layers.0", "model.layers.1"]
    assert names(Sites(types=[])) == blocks
    assert names(Sites(types=["Embedding"])) == ["model.embed_tokens", *blocks]
    attention = names(Sites(types=["*Attention"]))
    assert attention == [name for k in (0, 1) for name in (blocks[k], f"{blocks[k]}.self_attn")]
    # By a class that it derives from: Gemma's embedding is one of its own.
    assert names(Sites(types=["Embedding"]), "gemma3")[0] == "model.embed_tokens"


@pytest.mark.parametrize(
    ("sites", "key", "value", "examples"),
    [
        (Sites(types=["Linaer"]), "types", "Linaer", ["Linear"]),
        (Sites(types=["Linear", "linear"]), "types", "linear", ["Linear"]),
        (Sites(include=["*", "*.down"]), "include", "*.down", ["down_proj"]),
        (Sites(exclude=["model.layer.*"]), "exclude", "model.layer.*", ["model.layers"]),
    ],
)
def test_a_pattern_that_matches_nothing(
    sites: Sites, key: str, value: str, examples: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        sites.find(model_of("llama"))
    assert (caught.value.key, caught.value.value) == (key, value)
    what = "class of module" if key == "types" else "module"
    assert caught.value.reason.startswith(f"matches no {what}; the model has e.g. ")
    for example in examples:
        assert example in caught.value.reason


def test_default_types_need_not_all_be_there() -> None:
    assert "Conv1D" in Sites().types
    assert names(Sites(types=["Conv1D", "Embedding"]))


@pytest.mark.parametrize(
    ("sites", "key"),
    [
        (Sites(include=["lm_head"]), "include"),  # the head never is a site
        (Sites(include=["model.embed_tokens"]), "include"),
        (Sites(exclude=["*"]), "exclude"),
        (Sites(include=["*.down_proj"], exclude=["*mlp*"]), "exclude"),
    ],
)
def test_patterns_that_leave_nothing(sites: Sites, key: str) -> None:
    with pytest.raises(ConfigError, match="leaves no module to observe") as caught:
        sites.find(model_of("llama"))
    assert caught.value.key == key


# -- decoder blocks ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ALL)
def test_the_list_of_decoder_blocks(family: str) -> None:
    assert decoder_blocks(model_of(family)) == BLOCKS[family]


def towers(depth: int) -> nn.Module:
    """A text model of two blocks of experts beside a tower of `depth` blocks."""
    block = [nn.ModuleDict({"experts": nn.ModuleList(nn.Linear(2, 2) for _ in range(5))})] * 2
    text = nn.ModuleDict({"layers": nn.ModuleList(block)})
    tower = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(2, 2) for _ in range(depth))})
    return nn.ModuleDict({"vision": tower, "language_model": text})


def test_neither_experts_nor_another_tower_are_taken_for_blocks() -> None:
    model = towers(depth=9)
    assert decoder_blocks(model) == "language_model.layers"
    assert decoder_blocks(model["language_model"]) == "layers"
    sites = Sites().find(model["language_model"])
    assert Site("layers.0.experts.4", "experts", 0) in sites


def test_a_model_without_blocks() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert decoder_blocks(model) == ""
    assert [(site.name, site.layer) for site in Sites().find(model)] == [("0", None)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.3", (RESIDUAL, 3)),
        ("model.layers.12.mlp.down_proj", ("mlp.down_proj", 12)),
        ("model.layers.12.mlp.down_proj.weight", ("mlp.down_proj.weight", 12)),
        ("model.layers.0.experts.7.w1", ("experts.w1", 0)),
        ("model.layers_extra.0.w", ("model.layers_extra.w", None)),
        ("model.layers", ("model.layers", None)),
        ("model.norm", ("model.norm", None)),
        ("lm_head.weight", ("lm_head.weight", None)),
    ],
)
def test_kind_and_layer(name: str, expected: tuple[str, int | None]) -> None:
    assert kind_and_layer(name, "model.layers") == expected


def test_kind_and_layer_without_blocks() -> None:
    assert kind_and_layer("3.weight", "") == ("weight", None)
