"""What lies at the place of a model is told from its files, and pickles are never read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.errors import ConfigError
from harness.models import Pretrained, checkpoint
from harness.models.checkpoint import INDEX, WEIGHTS, Checkpoint
from tests.tiny import tiny_model


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "part[1]"))


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        Checkpoint("model.pretrained", str(folder)).check()
    assert (error.value.key, error.value.value) == ("model.pretrained", str(folder))
    assert "\n" not in str(error.value)
    return error.value.reason


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path) == "holds no weights (model.safetensors)"
    (tmp_path / "model.bin").touch()
    assert refused(tmp_path).startswith("holds pickled weights only (model.bin)")
    (tmp_path / WEIGHTS).touch()
    Checkpoint("model.pretrained", str(tmp_path)).check()


def test_a_folder_that_looks_like_a_pattern_is_that_folder(folder: Path) -> None:
    other = Path(shutil.copytree(folder, folder.with_name("part1")))
    save_file({"x": torch.ones(2)}, other / WEIGHTS)
    model = Pretrained(str(folder)).load()
    assert torch.equal(model.lm_head.weight, tiny_model("llama").lm_head.weight)


def shard(folder: Path) -> dict[str, str]:
    """Splits the weights over two files; gives the map of the index."""
    held = {name: value.clone() for name, value in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).unlink()
    names = sorted(held)
    half = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in half.items():
        save_file({name: held[name] for name in part}, folder / file, {"format": "pt"})
    return {name: file for file, part in half.items() for name in part}


def write_index(folder: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / INDEX).write_text(text)


def test_weights_in_several_files_are_read_through_their_index(folder: Path) -> None:
    write_index(folder, {"metadata": {}, "weight_map": shard(folder)})
    model = Pretrained(str(folder)).load()
    for name, value in tiny_model("llama").named_parameters():
        assert torch.equal(model.get_parameter(name), value), name


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("pytorch_model.bin", "weights are read from safetensors alone"),
        (3, "weights are read from safetensors alone"),
        (["one.safetensors"], "weights are read from safetensors alone"),
        ("../outside.safetensors", "outside of the model"),
        ("in/../../outside.safetensors", "outside of the model"),
        ("/outside.safetensors", "outside of the model"),
        ("..\\outside.safetensors", "outside of the model"),
        ("none.safetensors", "which is not there"),
    ],
)
def test_an_index_names_safetensors_beside_it(folder: Path, file: object, says: str) -> None:
    files = shard(folder)
    torch.save({}, folder / "pytorch_model.bin")
    shutil.copy(folder / "one.safetensors", folder.parent / "outside.safetensors")
    write_index(folder, {"metadata": {}, "weight_map": files | {next(iter(files)): file}})
    assert says in refused(folder)
    assert refused(folder).startswith(f"{INDEX} points at {file!r}")


@pytest.mark.parametrize("content", ["null", "[]", "{", "[" * 100_000, "\ud800", '{"a": 3}'])
def test_an_index_is_a_mapping(folder: Path, content: str) -> None:
    shard(folder)
    (folder / INDEX).write_bytes(content.encode("utf-8", "surrogatepass"))
    assert refused(folder).startswith(INDEX)


def test_of_whole_weights_the_index_is_not_read(folder: Path) -> None:
    write_index(folder, "null")
    assert Pretrained(str(folder)).load().lm_head.weight.shape == (260, 32)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub, with the folder as the repository some/one; gives its snapshot."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--some--one"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return Path(shutil.copytree(folder, snapshot))


def test_what_lies_in_the_cache_counts_as_on_the_hub(hub: Path) -> None:
    there = Checkpoint("model.pretrained", "some/one")
    assert not there.local
    assert WEIGHTS in there.files
    there.check()
    assert Path(there.path(WEIGHTS)).read_bytes() == (hub / WEIGHTS).read_bytes()
    (hub / WEIGHTS).rename(hub / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="holds pickled weights only"):
        Checkpoint("model.pretrained", "some/one").check()


def test_of_a_repository_the_files_at_the_top_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["README.md", "Q4/w.gguf", "Q8/w.gguf"]
    monkeypatch.setattr(checkpoint, "_on_hub", lambda *_: found)
    assert Checkpoint("model.pretrained", "a/b").gguf is None
    assert Checkpoint("model.pretrained", "a/b/Q8/w.gguf").gguf == "Q8/w.gguf"
    found.append("w.gguf")
    assert Checkpoint("model.pretrained", "a/b").gguf == "w.gguf"
    found.append("v.gguf")
    with pytest.raises(ConfigError, match=r"name one of v\.gguf, w\.gguf"):
        _ = Checkpoint("model.pretrained", "a/b").gguf


def test_a_repository_that_cannot_be_asked_is_refused_by_what_loads_it() -> None:
    there = Checkpoint("model.pretrained", "some/thing-that-is-not-cached")
    assert there.files == ()
    there.check()
    with pytest.raises(ConfigError, match="the hub cannot be reached"):
        _ = Pretrained("some/thing-that-is-not-cached").config
