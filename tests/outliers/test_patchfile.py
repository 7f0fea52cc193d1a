"""Patches as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from harness import __version__
from harness.errors import ConfigError
from harness.outliers import (
    AbsoluteThreshold,
    Patch,
    Scope,
    TensorPatch,
    Zero,
    make_patch,
    patchfile,
)
from tests.outliers.models import Awkward, image, weights
from tests.tiny import tiny_model

MADE_BY = {"variant": "zeroed", "criterion": str(AbsoluteThreshold(1.0)), "edit": "Zero()"}


def patched(model: nn.Module, threshold: float = 1.0) -> Patch:
    return make_patch(Scope().select(model), AbsoluteThreshold(threshold), Zero())


def parts(patch: Patch) -> list[tuple[object, ...]]:
    """Everything in a patch, values as bytes."""
    return [
        (
            tensor.name,
            tensor.shape,
            *((t.dtype, bytes(t.contiguous().view(torch.uint8).tolist()))
              for t in (tensor.index, tensor.old, tensor.new)),
        )
        for tensor in patch.tensors
    ]  # fmt: skip


def loaded_from(path: Path) -> tuple[Patch, dict[str, object]]:
    tensors, manifest = patchfile.load(path)
    return Patch(tensors), manifest


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model = Awkward()
    patch = patched(model)
    assert {"transposed", "bfloat", "low", "wide", "experts"} <= set(patch.names)
    path = tmp_path / "zeroed.safetensors"
    patchfile.save(patch.tensors, path, MADE_BY)
    loaded, manifest = loaded_from(path)
    assert parts(loaded) == parts(patch)
    assert manifest.items() >= MADE_BY.items()
    assert manifest["format"] == 1
    assert manifest["harness"] == __version__
    first = patch.tensors[0]
    assert manifest["tensors"][0] == {
        "name": first.name,
        "shape": list(first.shape),
        "dtype": "float32",
    }
    assert patchfile.misfit(loaded.tensors, model) is None
    before = image(model)
    with patch.applied(model):
        expected = image(model)
    with loaded.applied(model):
        assert image(model) == expected
    assert image(model) == before


def test_a_scalar_and_an_empty_patch_can_be_saved(tmp_path: Path) -> None:
    model = weights(scale=torch.tensor(7.0))
    for patch in (patched(model), Patch()):
        patchfile.save(patch.tensors, tmp_path / "p", {})
        assert parts(loaded_from(tmp_path / "p")[0]) == parts(patch)


def test_nan_payloads_are_saved(tmp_path: Path) -> None:
    old = torch.tensor([0x7FC12345, -(2**31)], dtype=torch.int32).view(torch.float32)
    patch = Patch((TensorPatch("scale", (5,), torch.tensor([1, 4]), old, old),))
    patchfile.save(patch.tensors, tmp_path / "p", {})
    assert parts(loaded_from(tmp_path / "p")[0]) == parts(patch)


def test_equal_patches_give_equal_bytes(tmp_path: Path) -> None:
    made = []
    for number in range(6):
        path = tmp_path / str(number)
        items = MADE_BY.items() if number % 2 else reversed(MADE_BY.items())
        patchfile.save(patched(Awkward()).tensors, path, dict(items))
        made.append(path.read_bytes())
    assert len(set(made)) == 1
    tensors, manifest = patchfile.load(tmp_path / "0")
    patchfile.save(tensors, tmp_path / "again", manifest)
    assert (tmp_path / "again").read_bytes() == made[0]


def test_a_loaded_patch_does_not_need_its_file(tmp_path: Path) -> None:
    path = tmp_path / "p"
    patchfile.save(patched(Awkward()).tensors, path, {})
    loaded, _ = loaded_from(path)
    before = parts(loaded)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert parts(loaded) == before


def test_a_path_that_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    for name, threshold in (("part[1].safetensors", 1.0), ("part1.safetensors", 1e9)):
        patchfile.save(patched(Awkward(), threshold).tensors, tmp_path / name, {})
    assert loaded_from(tmp_path / "part[1].safetensors")[0].entries > 0
    assert loaded_from(tmp_path / "part1.safetensors")[0].entries == 0


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        patchfile.load(path, "model.variants.zeroed.patch")
    assert error.value.key == "model.variants.zeroed.patch"
    assert error.value.value == str(path)
    assert "\n" not in str(error.value)
    return error.value.reason


def test_what_is_no_patch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    assert "no such file" in refused(path)
    assert "no such file" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / ("x" * 5000))
    assert "no such file" in refused(tmp_path / "a\0b")
    for content in (b"", b"hello", b"\xff" * 100):
        path.write_bytes(content)
        assert "safetensors" in refused(path)
    patchfile.save(patched(Awkward()).tensors, path, {})
    path.write_bytes(path.read_bytes()[:-4])
    assert "safetensors" in refused(path)
    save_file({"weight": torch.ones(3)}, path)
    assert "no manifest" in refused(path)
    save_file({"weight": torch.ones(3)}, path, metadata={"format": "pt"})
    assert "no manifest" in refused(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
        ({"tensors": []}, "its tensors"),
        ({"tensors": [{"name": "m"}]}, "no 'dtype'"),
        ({"tensors": [{"name": "m", "shape": [2], "dtype": "float32"}]}, "ascend within"),
        *(
            ({"tensors": [{"name": "m", "shape": shape, "dtype": "float32"}]}, "its shape must be")
            for shape in (3, None, "9", ["9"], [9.0], [True], {"9": 9}, [[9]])
        ),
        *(
            ({"tensors": [{"name": "m", "shape": shape, "dtype": "float32"}]}, "no tensor has")
            for shape in ([-1], [-3, -3], [10**18, 10**18], [10**400], [0, 10**19])
        ),
        ({"tensors": [{"name": 7, "shape": [9], "dtype": "float32"}]}, "its tensors are not"),
        ({"tensors": [{"name": "m", "shape": [9], "dtype": ["float32"]}]}, "m is float32"),
        ({"tensors": {"m": [9]}}, "its tensors must be a list"),
        ({"tensors": ["m"]}, "its tensors must be a list"),
        ({"tensors": [{"name": "m", "shape": [9], "dtype": "float16"}]}, "float16"),
        ({"tensors": 2 * [{"name": "m", "shape": [9], "dtype": "float32"}]}, "once"),
        ({"tensors": None}, "not a valid patch"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    tmp_path: Path, damage: dict[str, object], reason: str
) -> None:
    path = tmp_path / "p"
    patchfile.save(patched(weights(m=torch.arange(9.0))).tensors, path, {})
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        manifest = json.loads(file.metadata()["manifest"])
    save_file(tensors, path, metadata={"manifest": json.dumps(manifest | damage)})
    assert reason in refused(path)
    for text in ("{", "[]", "null", "[" * 100_000, '"text"'):
        save_file(tensors, path, metadata={"manifest": text})
        assert "not a valid patch" in refused(path)


def test_a_patch_of_these_weights_passes() -> None:
    model = tiny_model("gpt2")
    patch = patched(model, 0.3)
    assert patchfile.misfit(patch.tensors, model) is None
    renamed = [
        TensorPatch("lm_head.weight", t.shape, t.index, t.old, t.new)
        for t in patch.tensors
        if t.name == "transformer.wte.weight"
    ]
    assert patchfile.misfit(renamed, model) is None


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"b": torch.ones(4)}, "no such parameter"),
        ({"a": torch.ones(2, 2)}, "shape"),
        ({"a": torch.ones(4).half()}, "float16"),
        ({"a": torch.tensor([2.0, -0.0, 0.0, 2.0])}, "1 of 2"),
        ({"a": torch.tensor([2.0, 0.0, 0.0, 2.0000002])}, "1 of 2"),
    ],
)
def test_a_patch_of_another_model_is_refused(other: dict[str, torch.Tensor], reason: str) -> None:
    index = torch.tensor([1, 3])
    old = torch.tensor([0.0, 2.0])
    patch = [TensorPatch("a", (4,), index, old, torch.zeros(2))]
    assert patchfile.misfit(patch, weights(a=torch.tensor([9.0, 0.0, 9.0, 2.0]))) is None
    said = patchfile.misfit(patch, weights(**other))
    assert said is not None
    assert said.startswith("a: ")
    assert reason in said
    assert "another model" in said
