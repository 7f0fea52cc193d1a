"""Variants by name, with their controls; names and combinations that cannot be are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.errors import ConfigError
from harness.outliers import AbsoluteThreshold, Clip, Patch, Scope, TopFraction, patchfile
from harness.outliers.parameters import parameter_count
from harness.outliers.patch import Told
from harness.outliers.variants import VariantConfig, variants_of
from tests.tiny import tiny_model

ZEROED = VariantConfig(AbsoluteThreshold(0.6), controls=2)


def found(model: nn.Module, config: VariantConfig, seed: int = 0) -> Patch:
    """The intervention of a variant."""
    intervention = variants_of({"a": config})["a"].find("a", model, seed)
    assert isinstance(intervention, Patch)
    return intervention


def test_a_control_matches_its_variant() -> None:
    model = tiny_model("llama")
    zeroed = found(model, ZEROED)
    assert zeroed.entries > 0
    for control in (zeroed.control(0, model), zeroed.control(1, model)):
        assert control.criterion == "random, as many as a"
        sizes = {tensor.name: tensor.entries for tensor in control.tensors}
        assert sizes == {tensor.name: tensor.entries for tensor in zeroed.tensors}
        assert all(not tensor.new.any() for tensor in control.tensors)


def test_the_control_seed_decides_the_controls() -> None:
    model = tiny_model("llama")

    def indices(seed: int) -> list[int]:
        control = found(model, ZEROED, seed).control(0, model)
        return torch.cat([tensor.index for tensor in control.tensors]).tolist()

    assert indices(0) == indices(0)
    assert indices(0) != indices(1)


def test_a_criterion_that_selects_nothing_leaves_the_original() -> None:
    nothing = found(tiny_model("llama"), VariantConfig(AbsoluteThreshold(1e6)))
    assert nothing.is_identity
    assert nothing.describe(tiny_model("llama")).is_original


def test_a_saved_patch_is_a_variant(tmp_path: Path) -> None:
    model = tiny_model("llama")
    config = VariantConfig(AbsoluteThreshold(0.6), edit=Clip())
    made = found(model, config)
    path = tmp_path / "clipped.safetensors"
    patchfile.save(made.tensors, path, {"criterion": made.criterion, "edit": made.edit})
    loaded = found(model, VariantConfig(patch=str(path)))
    control = loaded.control(0, model)
    assert (loaded.criterion, loaded.edit) == ("AbsoluteThreshold(threshold=0.6)", "Clip()")
    for mine, yours in zip(made.tensors, loaded.tensors, strict=True):
        assert torch.equal(mine.index, yours.index)
        assert torch.equal(mine.new, yours.new)
    assert control.entries == loaded.entries


def test_a_variant_is_told_in_words_and_so_is_its_saved_patch(tmp_path: Path) -> None:
    model = tiny_model("llama")
    scope = Scope(["*.mlp.*"], matrices_only=True)
    config = VariantConfig(AbsoluteThreshold(0.6), Clip(), scope, controls=1)
    made = found(model, config)
    control = made.control(0, model)
    mlp = [w.numel() for n, w in model.named_parameters() if ".mlp." in n and w.dim() > 1]
    expected = Told("clips", "those with |w| > 0.6", "matrices named *.mlp.*", sum(mlp))
    assert made.told == expected
    assert control.told == replace(expected, which="as many at random")
    path = tmp_path / "clipped.safetensors"
    patchfile.save(made.tensors, path, made.made_by)
    loaded = found(model, VariantConfig(patch=str(path)))
    assert loaded.told == expected


@pytest.mark.parametrize(
    "said",
    [
        None,
        "zeroes",
        [1],
        {"verb": 3, "which": None, "scope": ["*"], "in_scope": "12"},
        {"verb": "zeroes\x1b[2J", "which": "a\nb", "in_scope": -1},
        {"in_scope": True},
    ],
)
def test_what_a_manifest_cannot_tell_is_left_out(said: object, tmp_path: Path) -> None:
    model = tiny_model("llama")
    made = found(model, VariantConfig(AbsoluteThreshold(0.6)))
    path = tmp_path / "a.safetensors"
    patchfile.save(made.tensors, path, {"told": said})
    loaded = found(model, VariantConfig(patch=str(path)))
    assert loaded.told == Told()


def test_a_patch_of_another_model_is_refused(tmp_path: Path) -> None:
    made = found(tiny_model("llama"), VariantConfig(AbsoluteThreshold(0.6)))
    path = tmp_path / "a.safetensors"
    patchfile.save(made.tensors, path, {})
    with pytest.raises(ConfigError, match="another model") as error:
        found(tiny_model("llama", seed=1), VariantConfig(patch=str(path)))
    assert error.value.key == "model.variants.a.patch"


def test_controls_of_a_saved_patch_do_what_the_patch_does(tmp_path: Path) -> None:
    model = tiny_model("llama")
    config = VariantConfig(AbsoluteThreshold(0.6), edit=Clip())
    made = found(model, config)
    path = tmp_path / "clipped.safetensors"
    patchfile.save(made.tensors, path, made.made_by)
    loaded = found(model, VariantConfig(patch=str(path)))
    control = loaded.control(0, model)
    assert loaded.made_by["scope"] == made.made_by["scope"]
    for outliers, tensor in zip(made.tensors, control.tensors, strict=True):
        ratio = outliers.new.double() / outliers.old.double()
        assert torch.allclose(tensor.new.double(), tensor.old.double() * ratio)


def test_names_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(ConfigError, match="another variant"):
        variants_of({"a": ZEROED, "A": ZEROED})


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b", "..", "x-control-0", "a b", "-x", "(original again)", "5", "a.", "a\n"),
        *("ä\x1b[2J", "~", "2024-01-01", "a" * 65, "a" * 250),
    ],
)
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is named by"):
        variants_of({name: ZEROED})


@pytest.mark.parametrize(
    "name",
    [
        *("original", "patches", "Status", "figures", "journal", "checkpoints", "results.json"),
        *("documents.parquet", "generations.jsonl", "activations.parquet", "config.yaml"),
        *("report.md", "Report.HTML", "variants.csv", "con", "NUL", "aux.txt", "com1", "lpt9.x"),
    ],
)
def test_names_of_what_a_run_folder_holds_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is taken"):
        variants_of({name: ZEROED})


@pytest.mark.parametrize("name", ["no", "null", "true", "a" * 64, "a.b-c_d", "report", "Variants"])
def test_any_other_name_is_taken_as_it_is(name: str) -> None:
    variants_of({name: ZEROED})


def test_a_variant_needs_a_criterion_or_a_patch_and_not_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a criterion") as error:
        variants_of({"a": VariantConfig()})
    assert error.value.key == "model.variants.a.criterion"
    with pytest.raises(ConfigError, match="one of the two") as error:
        variants_of({"a": VariantConfig(AbsoluteThreshold(), patch="x.safetensors")})
    assert error.value.key == "model.variants.a.patch"
    with pytest.raises(ConfigError, match="its own edit"):
        variants_of({"a": VariantConfig(patch="x.safetensors", edit=Clip())})
    missing = VariantConfig(patch=str(tmp_path / "x.safetensors"))
    (variant,) = variants_of({"a": missing}).values()
    with pytest.raises(ConfigError, match="no such file"):
        variant.check("model.variants.a", nn.Module())


def test_a_scope_that_matches_nothing_is_named_in_full() -> None:
    config = VariantConfig(AbsoluteThreshold(), scope=Scope(exclude=["*.nothing"]))
    with torch.device("meta"):
        skeleton = tiny_model("llama")
    with pytest.raises(ConfigError, match="matches no parameter") as error:
        variants_of({"a": config})["a"].check("model.variants.a", skeleton)
    assert error.value.key == "model.variants.a.scope.exclude"


def test_tied_weights_count_once() -> None:
    model = tiny_model("qwen2")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    everything = VariantConfig(TopFraction(1.0))
    variant = found(model, everything)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert variant.entries == parameter_count(model) == expected
    by_class = variant.describe(model).by_module_class
    assert by_class["Embedding"] == model.lm_head.weight.numel()
    assert sum(by_class.values()) == expected
