"""Models are loaded from folders as from the hub; what cannot be evaluated is refused early."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.data.checks import padding_id
from harness.errors import ConfigError
from harness.models import Pretrained
from harness.models.repository import first_line
from tests.running import run
from tests.tiny import FAMILIES, save_tiny, tiny_model


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "copy"))


@pytest.mark.parametrize("family", FAMILIES)
def test_loads_what_was_saved(family: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / family, family)
    source = Pretrained(str(folder))
    model = source.load()
    assert not model.training
    for name, weight in tiny_model(family).named_parameters():
        assert torch.equal(model.get_parameter(name), weight), name
    assert source.max_positions == 64
    assert source.tokenizer("ab").input_ids


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype_is_that_of_the_weights(folder: Path, dtype: str) -> None:
    source = Pretrained(str(folder), dtype=dtype)  # type: ignore[arg-type]
    assert source.load().dtype == source.dtype == getattr(torch, dtype)


def test_skeleton_has_names_and_no_values(folder: Path) -> None:
    skeleton = Pretrained(str(folder)).skeleton
    assert {n for n, _ in skeleton.named_parameters()} == {
        n for n, _ in tiny_model("llama").named_parameters()
    }
    assert all(p.is_meta for p in skeleton.parameters())


def test_architecture_starts_from_random_weights(llama_folder: Path) -> None:
    architecture = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    architecture |= {"num_attention_heads": 2, "vocab_size": 260, "model_type": "llama"}
    source = Pretrained(tokenizer=str(llama_folder), architecture=architecture)
    torch.manual_seed(1)
    first = source.load()
    torch.manual_seed(1)
    assert torch.equal(first.model.norm.weight, source.load().model.norm.weight)
    assert first.config.hidden_size == 16


def test_an_architecture_without_a_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="must name a model_type") as error:
        _ = Pretrained(architecture={"hidden_size": 16}).config
    assert error.value.key == "model.architecture"


@pytest.mark.parametrize(
    ("kind", "says"),
    [("no-such-model", "transformers has no such type; it has "), ("lama", "it has llama, ")],
)
def test_an_unknown_type_of_model_is_refused(kind: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        _ = Pretrained(architecture={"model_type": kind}).config
    assert (error.value.key, error.value.value) == ("model.architecture.model_type", kind)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", ""])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="no such folder") as error:
        _ = Pretrained(name).config
    assert error.value.key == "model.pretrained"
    assert "\n" not in str(error.value)


def test_a_hub_id_without_a_hub_says_so() -> None:
    with pytest.raises(ConfigError) as error:
        _ = Pretrained("someone/some-model-that-is-not-cached").config
    assert "\n" not in str(error.value)
    assert "cannot be reached" in str(error.value)


def test_a_tokenizer_of_its_own_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError) as error:
        _ = Pretrained(str(folder), tokenizer="./nowhere").tokenizer
    assert error.value.key == "model.tokenizer"


def test_pickled_weights_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin.*safetensors"):
        Pretrained(str(folder)).check()


def test_packed_weights_are_refused(folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ConfigError, match=r"gptq-quantised.*unquantised"):
        Pretrained(str(folder)).check()


def test_gemma3_in_float16_is_refused_unless_forced(tmp_path: Path) -> None:
    folder = str(save_tiny(tmp_path / "gemma", "gemma3"))
    with pytest.raises(ConfigError, match=r"overflow.*bfloat16") as error:
        Pretrained(folder, dtype="float16").check()
    assert error.value.key == "model.dtype"
    Pretrained(folder, dtype="float16", force_dtype=True).check()
    edit_config(Path(folder), dtype="float16")
    with pytest.raises(ConfigError, match="overflow"):
        Pretrained(folder).check()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_implementation", "no-such-kernel"),
        ("attn_implementation", "flash_attention_2"),
        ("device_map", "nowhere"),
    ],
)
def test_what_a_model_cannot_be_loaded_with_is_named(folder: Path, key: str, value: str) -> None:
    options: dict[str, Any] = {key: value}
    with pytest.raises(ConfigError) as error:
        Pretrained(str(folder), **options).load()
    assert (error.value.key, error.value.value) == (f"model.{key}", value)
    assert "\n" not in str(error.value)


def test_what_has_nothing_to_do_with_kernels_and_places_is_not_blamed_on_them(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"eager auto cpu")
    for options in ({"attn_implementation": "eager"}, {"device_map": "auto"}):
        with pytest.raises(ConfigError, match="damaged") as error:
            Pretrained(str(folder), **options).load()  # type: ignore[arg-type]
        assert error.value.key == "model.pretrained"


def test_code_of_a_models_own_is_refused_until_it_is_allowed(folder: Path) -> None:
    own = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    edit_config(folder, model_type="its-own", auto_map=own)
    with pytest.raises(ConfigError, match=r"allow it by model.trust_remote_code=true"):
        _ = Pretrained(str(folder)).config


def test_a_revision_is_for_models_of_the_hub(folder: Path) -> None:
    for name in (str(folder), "demo"):
        with pytest.raises(ConfigError, match="only a model of the hub has one") as error:
            Pretrained(name, revision="main").check()
        assert error.value.key == "model.revision"


def test_an_incomplete_checkpoint_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    del state["model.layers.1.mlp.down_proj.weight"]
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        Pretrained(str(folder)).load()


def test_weights_of_another_shape_are_named(folder: Path) -> None:
    edit_config(folder, intermediate_size=40)
    with pytest.raises(ConfigError, match=r"mlp\.\w+_proj\.weight has shape \[.*48.*40"):
        Pretrained(str(folder)).load()


def test_what_no_model_can_be_made_of_is_refused(folder: Path) -> None:
    edit_config(folder, hidden_act="no-such-function")
    with pytest.raises(ConfigError, match=r"no model can be made .*no-such-function") as error:
        _ = Pretrained(str(folder)).skeleton
    assert error.value.key == "model.pretrained"
    architecture = {"model_type": "llama", "hidden_act": "no-such-function"}
    for attempt in (lambda source: source.skeleton, Pretrained.load):
        with pytest.raises(ConfigError, match="no-such-function") as error:
            attempt(Pretrained(architecture=architecture))
        assert error.value.key == "model.architecture"


@pytest.mark.parametrize(("stated", "limit"), [(64, 64), (-1, None), (0, None)])
def test_positions_that_are_no_limit(folder: Path, stated: int, limit: int | None) -> None:
    source = Pretrained(str(folder))
    source.config.max_position_embeddings = stated
    assert source.max_positions == limit


def test_a_message_that_ends_in_a_colon_goes_on() -> None:
    assert (
        first_line(ValueError("It is one of:\n\n (1) this.\n (2) that."))
        == "It is one of: (1) this"
    )
    assert first_line(ValueError("Only:\n")) == "Only:"
    assert first_line(ValueError("")) == "ValueError"


def test_a_damaged_checkpoint_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(ConfigError) as error:
        Pretrained(str(folder)).load()
    assert "\n" not in str(error.value)


def test_a_model_that_is_no_language_model_is_refused(folder: Path) -> None:
    edit_config(folder, model_type="vit", architectures=["ViTModel"])
    with pytest.raises(ConfigError, match="not a causal language model"):
        _ = Pretrained(str(folder)).skeleton


def test_weights_without_a_place_are_said(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=1)
    source = Pretrained(str(folder))
    source.load()
    (sentence,) = source.remarks
    assert sentence.startswith(f"9 weights in {folder} have no place in the model")
    assert "and were not measured: model.layers.*.input_layernorm.weight, " in sentence


def test_what_is_said_of_weights_stands_in_the_results(
    folder: Path, texts: Path, tmp_path: Path
) -> None:
    edit_config(folder, num_hidden_layers=1)
    ran = run(folder, texts, tmp_path / "logs")
    assert ran.results.warnings[0].startswith(f"9 weights in {folder} have no place")


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_said_of_weights_that_all_have_a_place(family: str, tmp_path: Path) -> None:
    source = Pretrained(str(save_tiny(tmp_path / family, family)))
    source.load()
    assert source.remarks == []


_SMALL = {
    "t5": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
    "bart": {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1},
    "whisper": {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1},
    "musicgen": {},
}


@pytest.mark.parametrize("kind", _SMALL)
def test_encoder_decoder_models_are_refused_for_what_they_are(kind: str, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **_SMALL[kind]}))
    with pytest.raises(ConfigError, match=f"{kind} is an encoder-decoder model") as error:
        _ = Pretrained(str(folder)).max_positions
    assert error.value.key == "model.pretrained"


def test_a_decoder_that_was_taken_out_of_one_is_none() -> None:
    architecture = {"model_type": "bart", "is_encoder_decoder": False, "d_model": 16}
    architecture |= {"decoder_layers": 1, "decoder_attention_heads": 2, "vocab_size": 40}
    source = Pretrained(architecture=architecture)
    assert type(source.load()).__name__ == "BartForCausalLM"


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 0},
        {"dtype": "nosuch"},
        {"dtype": "int8"},
        {"dtype": 3},
        {"vocab_size": 0},
        {"vocab_size": "many"},
        {"max_position_embeddings": "many"},
        {"hidden_size": 10**15},
        {"model_type": 3},
        {"quantization_config": 3},
        {"rope_parameters": 3},
        {"transformers_weights": "../model.safetensors"},
        {"transformers_weights": "adapter_model.bin"},
        {"auto_map": 3},
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_sense_is_refused(
    folder: Path, changes: dict[str, object]
) -> None:
    edit_config(folder, **changes)
    source = Pretrained(str(folder))
    with pytest.raises(ConfigError) as error:
        source.load()
    assert error.value.key == "model.pretrained"
    assert "\n" not in str(error.value)
    assert len(error.value.reason) < 500


@pytest.mark.parametrize(
    "text", ["null", "[]", "3", "{", "", "{}", "[" * 100_000, '{"a":' * 100_000, "\udcff"]
)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_files_that_hold_anything_are_refused_in_one_line(
    folder: Path, file: str, text: str
) -> None:
    (folder / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    source = Pretrained(str(folder))
    if (file, text) == ("tokenizer_config.json", "{}"):  # nothing has to stand in it
        assert source.tokenizer("ab").input_ids == [64, 65]
        return
    with pytest.raises(ConfigError) as error:
        _ = source.config if file == "config.json" else source.tokenizer
    assert error.value.key == "model.pretrained"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"model_max_length": "x"}, {"bos_token": 3}])
def test_settings_of_a_tokenizer_that_make_no_sense_are_refused(
    folder: Path, settings: dict[str, object]
) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(ConfigError, match="no tokenizer: "):
        _ = Pretrained(str(folder)).tokenizer


def test_a_pad_token_that_was_added_and_not_resized_is_not_used(folder: Path) -> None:
    tokenizer = Pretrained(str(folder)).tokenizer
    tokenizer.add_tokens(["[OTHER]"])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    source = Pretrained(str(folder))
    model = source.load()
    assert source.tokenizer.pad_token_id == source.vocabulary == 260
    assert source.end_ids(model) == {tokenizer.eos_token_id}
    pad = padding_id(source.tokenizer, source.vocabulary)
    assert model.get_input_embeddings()(torch.tensor([pad])).isfinite().all()
