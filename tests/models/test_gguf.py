"""GGUF files are read as other models are, their weights dequantised."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from harness.errors import ConfigError
from harness.models import Pretrained, checkpoint
from harness.outliers import AbsoluteThreshold, patchfile
from harness.outliers.variants import VariantConfig
from harness.writing.settings import Generation
from tests.gguf_file import save_gguf, weights
from tests.running import run
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_gguf(tmp_path_factory.mktemp("gguf") / "tiny [Q8].gguf", quantised=True)


@pytest.mark.parametrize("quantised", [False, True])
def test_its_values_are_those_that_it_holds(quantised: bool, tmp_path: Path) -> None:
    path = save_gguf(tmp_path / "tiny.gguf", quantised=quantised)
    source = Pretrained(str(path))
    model = source.load()
    assert source.dtype == torch.float32
    assert source.max_positions == 64
    due = weights(tiny_model("llama"), quantised=quantised)
    assert {name for name, _ in model.named_parameters()} == set(due)
    for name, value in model.named_parameters():
        assert torch.equal(value, torch.from_numpy(due[name])), name
    assert source.remarks == []
    text = "Hello, wörld 東京\n"
    assert source.tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids
    assert source.tokenizer.eos_token_id == 257
    assert {n for n, _ in source.skeleton.named_parameters()} == set(due)


def test_the_dtype_can_be_chosen(file: Path) -> None:
    source = Pretrained(str(file), dtype="bfloat16")
    weight = source.load().model.layers[0].mlp.up_proj.weight
    due = weights(tiny_model("llama"), quantised=True)["model.layers.0.mlp.up_proj.weight"]
    assert torch.equal(weight, torch.from_numpy(due).bfloat16())


def test_a_folder_with_one_file_is_that_file(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / "w.GGUF")
    source = Pretrained(str(tmp_path))
    assert source.checkpoint.gguf == "w.GGUF"
    assert source.load().dtype == torch.float32


def test_of_several_files_one_is_named(file: Path, tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf"):
        shutil.copy(file, tmp_path / name)
    with pytest.raises(ConfigError, match=r"several GGUF files; name one of a\.gguf, b\.gguf"):
        Pretrained(str(tmp_path)).check()
    Pretrained(str(tmp_path / "b.gguf")).check()


def test_weights_in_safetensors_go_before_it(file: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "both")
    shutil.copy(file, folder / "w.gguf")
    assert Pretrained(str(folder)).checkpoint.gguf is None
    assert Pretrained(str(folder / "w.gguf")).checkpoint.gguf == "w.gguf"


def test_its_tokenizer_may_serve_another_model(file: Path, llama_folder: Path) -> None:
    source = Pretrained(str(llama_folder), tokenizer=str(file))
    assert source.tokenizer("ab").input_ids == tiny_tokenizer()("ab").input_ids


def test_a_missing_package_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'outlier-harness\[gguf\]'") as error:
        _ = Pretrained(str(file)).config
    assert error.value.key == "model.pretrained"


@pytest.mark.parametrize("kept", [0, 3, 10, 500, 4000, -100])
def test_a_damaged_file_is_refused(kept: int, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.gguf"
    path.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ConfigError) as error:
        Pretrained(str(path)).load()
    assert error.value.key == "model.pretrained"
    assert "\n" not in str(error.value)


def test_garbage_is_refused(tmp_path: Path) -> None:
    for content in (b"GGUF" + b"\xff" * 200, b"hello", b"GGUF\3\0\0\0" + b"\0" * 100):
        path = tmp_path / "w.gguf"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            _ = Pretrained(str(path)).config
        assert "\n" not in str(error.value)


def test_it_is_measured_and_its_patches_are_of_it(
    file: Path, texts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    variants = {"far": VariantConfig(AbsoluteThreshold(0.6))}
    generation = Generation(max_new_tokens=3)
    options = {"generation": generation, "variants": variants}
    ran = run(file, texts, tmp_path / "logs", model=options, prompts=["The"])
    assert ran.results.model.pretrained == str(file)
    assert ran.results.model.dtype == "float32"
    assert ran.results.variants["far"].edit.entries > 0
    assert "quantizing" not in capfd.readouterr().err
    path = ran.folder / "patches" / "far.safetensors"
    _, manifest = patchfile.load(path)
    assert manifest["model"]["pretrained"] == "tiny [Q8].gguf"
    assert manifest["model"]["dtype"] == "float32"
    saved = {"again": VariantConfig(patch=str(path))}
    again = run(file, texts, tmp_path / "logs", model={"variants": saved})
    assert again.results.variants["again"].versus_original == (
        ran.results.variants["far"].versus_original
    )
    with pytest.raises(ConfigError, match="float32 in the patch"):
        run(file, texts, tmp_path / "logs", model={"variants": saved, "dtype": "bfloat16"})


def test_it_can_be_trained_and_saved(file: Path, texts: Path, tmp_path: Path) -> None:
    source = Pretrained(str(file))
    model = source.load()
    source.save(model, tmp_path / "saved")
    again = Pretrained(str(tmp_path / "saved")).load()
    for name, value in model.named_parameters():
        assert value.requires_grad
        assert torch.equal(again.get_parameter(name), value)
