"""Adapters of PEFT are merged into their model, and what cannot be is refused early."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.errors import ConfigError
from harness.evaluation.training import Training
from harness.models import Pretrained, adapters
from harness.outliers import AbsoluteThreshold
from harness.outliers.variants import VariantConfig
from tests.running import run
from tests.tiny import tiny_model

# What peft asks of models by a name that is about to change.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def save_adapter(folder: Path, base: str, kind: str = "lora", **options: Any) -> Path:
    """Saves an adapter of the tiny Llama with random weights, so that it does something."""
    model = tiny_model("llama")
    model.config._name_or_path = model.name_or_path = base
    config: Any = {
        "lora": peft.LoraConfig,
        "ia3": peft.IA3Config,
        "prompt": peft.PromptTuningConfig,
    }[kind](task_type="CAUSAL_LM", **options)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        adapted = peft.get_peft_model(model, config)
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.normal_(std=0.3)
    adapted.save_pretrained(folder)
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / SETTINGS
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def lora(llama_folder: Path, tmp_path: Path) -> Path:
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]}
    return save_adapter(tmp_path / "lora", str(llama_folder), **options)


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        Pretrained(str(folder)).load()
    assert (error.value.key, error.value.value) == ("model.pretrained", str(folder))
    assert "\n" not in str(error.value)
    return error.value.reason


def test_a_low_rank_product_is_added_to_the_weights(lora: Path, llama_folder: Path) -> None:
    source = Pretrained(str(lora))
    model = source.load()
    held = load_file(lora / WEIGHTS)
    for name, before in tiny_model("llama").named_parameters():
        low, high = (
            held.get(f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight")
            for part in "AB"
        )
        due = before if low is None else before + 6 / 4 * high @ low
        assert torch.allclose(model.get_parameter(name), due, rtol=1e-5, atol=1e-6), name
        assert (low is not None) == ("q_proj" in name or "down_proj" in name)
    assert source.remarks == [f"The adapter in {lora} was merged into {llama_folder}."]
    assert source.max_positions == 64
    assert source.tokenizer("ab").input_ids == [64, 65]
    assert source.is_local
    assert not model.training
    names = {name for name, _ in source.skeleton.named_parameters()}
    assert names == {name for name, _ in model.named_parameters()}


def test_merging_gives_what_peft_gives(llama_folder: Path, tmp_path: Path) -> None:
    ids = torch.arange(20)[None]
    for kind in ("lora", "ia3"):
        folder = save_adapter(tmp_path / kind, str(llama_folder), kind)
        reference = peft.PeftModel.from_pretrained(tiny_model("llama"), folder).eval()
        model = Pretrained(str(folder)).load()
        assert torch.allclose(model(ids).logits, reference(ids).logits, atol=1e-4), kind
        assert not torch.allclose(model(ids).logits, tiny_model("llama")(ids).logits, atol=1e-2)


def test_it_is_measured_and_trained_as_any_model(lora: Path, texts: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"variants": {"far": VariantConfig(AbsoluteThreshold(0.9))}}
    ran = run(lora, texts, tmp_path / "logs", model=options)
    assert ran.results.variants["far"].edit.entries > 0
    assert any("was merged into" in sentence for sentence in ran.results.warnings)
    # peft freezes what it adapts.
    assert all(weight.requires_grad for weight in ran.experiment.model.parameters())
    ran = run(
        lora,
        texts,
        tmp_path / "logs",
        command="fit",
        model={"training": Training(warmup_steps=0)},
        trainer={"max_steps": 1},
        max_length=16,
        batch_size=2,
    )
    assert ran.trainer.global_step == 1


def test_the_dtype_is_that_of_the_model(lora: Path) -> None:
    for dtype in ("auto", "bfloat16"):
        source = Pretrained(str(lora), dtype=dtype)  # type: ignore[arg-type]
        assert source.load().dtype == source.dtype
        assert (source.dtype == torch.bfloat16) == (dtype == "bfloat16")


def test_a_tokenizer_beside_it_is_its_own(lora: Path, llama_folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(llama_folder / file, lora / file)
    config = json.loads((lora / "tokenizer_config.json").read_text())
    (lora / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "a"}))
    assert Pretrained(str(lora)).tokenizer.eos_token == "a"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_model_name_or_path": None}, "names no model that it belongs to"),
        ({"base_model_name_or_path": 3}, "names no model that it belongs to"),
        ({"base_model_name_or_path": "./nowhere"}, "its model, ./nowhere: no such folder"),
        ({"peft_type": "NOSUCH"}, "names no type of adapter that peft knows"),
        ({"peft_type": None}, "names no type of adapter that peft knows"),
        ({"peft_type": ["LORA"]}, "names no type of adapter that peft knows"),
        ({"peft_type": "PROMPT_TUNING"}, "adds no weights that could be merged"),
        ({"r": 9}, "cannot be merged into"),
        ({"r": "x"}, "cannot be merged into"),
        ({"target_modules": ["no_such_module"]}, "cannot be merged into"),
        ({"target_modules": ["k_proj", "q_proj", "down_proj"]}, "it lacks 4 weights"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    lora: Path, changes: dict[str, object], says: str
) -> None:
    edit(lora, **changes)
    assert says in refused(lora)


@pytest.mark.parametrize("text", ["null", "[]", "{", "[" * 100_000])
def test_settings_that_are_no_mapping_are_refused(lora: Path, text: str) -> None:
    (lora / SETTINGS).write_text(text)
    assert refused(lora).startswith(SETTINGS)


def test_what_prompts_are_tuned_for_cannot_be_merged(llama_folder: Path, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "p", str(llama_folder), "prompt", num_virtual_tokens=3)
    assert "an adapter of type PROMPT_TUNING adds no weights" in refused(folder)


def test_an_adapter_of_an_adapter_is_refused(lora: Path) -> None:
    edit(lora, base_model_name_or_path=str(lora))
    assert "an adapter itself; merge that one first" in refused(lora)


def test_pickled_and_missing_weights_are_refused(lora: Path) -> None:
    held = {name: value.clone() for name, value in load_file(lora / WEIGHTS).items()}
    (lora / WEIGHTS).write_bytes(b"no safetensors")
    assert "cannot be merged into" in refused(lora)
    (lora / WEIGHTS).unlink()
    assert f"holds no weights ({WEIGHTS})" in refused(lora)
    torch.save(held, lora / "adapter_model.bin")
    assert "pickled weights only (adapter_model.bin)" in refused(lora)


def test_what_cannot_be_evaluated_of_its_model_is_refused(
    lora: Path, llama_folder: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(llama_folder, tmp_path / "base"))
    edit(lora, base_model_name_or_path=str(base))
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    assert f"its model, {base}: holds pickled weights only" in refused(lora)


def test_a_revision_is_that_of_a_model_on_the_hub(lora: Path) -> None:
    edit(lora, revision="main")
    Pretrained(str(lora)).check()
    edit(lora, base_model_name_or_path="someone/something", revision="main")
    assert "its model, someone/something: not a folder here" in refused(lora)


def test_weights_without_a_place_are_said(lora: Path) -> None:
    held = {name: value.clone() for name, value in load_file(lora / WEIGHTS).items()}
    name = next(iter(held)).replace("layers.0", "layers.7")
    save_file(held | {name: torch.ones(2)}, lora / WEIGHTS)
    source = Pretrained(str(lora))
    source.load()
    assert source.remarks[1].startswith(f"1 weights in {lora} have no place in the model")
    assert "layers.*" in source.remarks[1]


def test_beside_a_whole_model_it_is_left_alone_and_that_is_said(
    lora: Path, llama_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(llama_folder, tmp_path / "whole"))
    for file in (SETTINGS, WEIGHTS):
        shutil.copy(lora / file, folder / file)
    source = Pretrained(str(folder))
    model = source.load()
    for name, due in tiny_model("llama").named_parameters():
        assert torch.equal(model.get_parameter(name), due), name
    assert source.remarks[0].startswith(f"The adapter in {folder} ({SETTINGS}) was not used")


def test_a_missing_package_is_said(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    assert "pip install 'outlier-harness[peft]'" in refused(lora)
    assert importlib.util.find_spec("peft") is not None
