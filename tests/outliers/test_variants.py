"""Variants by name, with their controls; names and combinations that cannot be are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.errors import ConfigError
from harness.outliers import AbsoluteThreshold, Clip, Scope, TopFraction, patchfile
from harness.outliers.variants import (
    Told,
    VariantConfig,
    build_variants,
    check_configs,
    check_scopes,
    entries_by_module_class,
    parameter_count,
    patch_path,
)
from tests.tiny import tiny_model

ZEROED = VariantConfig(AbsoluteThreshold(0.6), controls=2)


def test_controls_follow_their_variant_and_match_it() -> None:
    model = tiny_model("llama")
    variants = build_variants(
        model, {"zeroed": ZEROED, "other": VariantConfig(TopFraction(0.01))}, 0
    )
    names = ["zeroed", "zeroed-control-0", "zeroed-control-1", "other"]
    assert [variant.name for variant in variants] == names
    zeroed, first, second, _ = variants
    assert zeroed.patch.entries > 0
    for control in (first, second):
        assert control.control_of == "zeroed"
        assert patch_path(control) is None
        sizes = {tensor.name: tensor.entries for tensor in control.patch.tensors}
        assert sizes == {tensor.name: tensor.entries for tensor in zeroed.patch.tensors}
        assert all(not tensor.new.any() for tensor in control.patch.tensors)
    assert patch_path(zeroed) == "patches/zeroed.safetensors"


def test_the_control_seed_decides_the_controls() -> None:
    model = tiny_model("llama")

    def indices(seed: int) -> list[int]:
        control = build_variants(model, {"zeroed": ZEROED}, seed)[1]
        return torch.cat([tensor.index for tensor in control.patch.tensors]).tolist()

    assert indices(0) == indices(0)
    assert indices(0) != indices(1)


def test_a_criterion_that_selects_nothing_has_no_controls() -> None:
    config = VariantConfig(AbsoluteThreshold(1e6), controls=3)
    (variant,) = build_variants(tiny_model("llama"), {"none": config}, 0)
    assert variant.patch.entries == 0
    assert patch_path(variant) is None


def test_a_saved_patch_is_a_variant(tmp_path: Path) -> None:
    model = tiny_model("llama")
    config = VariantConfig(AbsoluteThreshold(0.6), edit=Clip())
    (made,) = build_variants(model, {"clipped": config}, 0)
    path = tmp_path / "clipped.safetensors"
    patchfile.save(made.patch, path, {"criterion": made.criterion, "edit": made.edit})
    loaded, control = build_variants(
        model, {"again": VariantConfig(patch=str(path), controls=1)}, 0
    )
    assert (loaded.criterion, loaded.edit) == ("AbsoluteThreshold(threshold=0.6)", "Clip()")
    for mine, yours in zip(made.patch.tensors, loaded.patch.tensors, strict=True):
        assert torch.equal(mine.index, yours.index)
        assert torch.equal(mine.new, yours.new)
    assert control.patch.entries == loaded.patch.entries


def test_a_variant_is_told_in_words_and_so_is_its_saved_patch(tmp_path: Path) -> None:
    model = tiny_model("llama")
    scope = Scope(["*.mlp.*"], matrices_only=True)
    config = VariantConfig(AbsoluteThreshold(0.6), Clip(), scope, controls=1)
    made, control = build_variants(model, {"clipped": config}, 0)
    mlp = [w.numel() for n, w in model.named_parameters() if ".mlp." in n and w.dim() > 1]
    expected = Told("clips", "those with |w| > 0.6", "matrices named *.mlp.*", sum(mlp))
    assert made.told == expected
    assert control.told == replace(expected, which="as many at random")
    path = tmp_path / "clipped.safetensors"
    patchfile.save(made.patch, path, made.made_by)
    (loaded,) = build_variants(model, {"again": VariantConfig(patch=str(path))}, 0)
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
    (made,) = build_variants(model, {"a": VariantConfig(AbsoluteThreshold(0.6))}, 0)
    path = tmp_path / "a.safetensors"
    patchfile.save(made.patch, path, {"told": said})
    (loaded,) = build_variants(model, {"b": VariantConfig(patch=str(path))}, 0)
    assert loaded.told == Told()


def test_a_patch_of_another_model_is_refused(tmp_path: Path) -> None:
    (made,) = build_variants(tiny_model("llama"), {"a": VariantConfig(AbsoluteThreshold(0.6))}, 0)
    path = tmp_path / "a.safetensors"
    patchfile.save(made.patch, path, {})
    with pytest.raises(ConfigError, match="another model") as error:
        build_variants(tiny_model("llama", seed=1), {"b": VariantConfig(patch=str(path))}, 0)
    assert error.value.key == "model.variants.b.patch"


def test_controls_of_a_saved_patch_do_what_the_patch_does(tmp_path: Path) -> None:
    model = tiny_model("llama")
    config = VariantConfig(AbsoluteThreshold(0.6), edit=Clip())
    (made,) = build_variants(model, {"clipped": config}, 0)
    path = tmp_path / "clipped.safetensors"
    patchfile.save(made.patch, path, made.made_by)
    saved = {"again": VariantConfig(patch=str(path), controls=1)}
    loaded, control = build_variants(model, saved, 0)
    assert loaded.made_by["scope"] == made.made_by["scope"]
    for outliers, tensor in zip(made.patch.tensors, control.patch.tensors, strict=True):
        ratio = outliers.new.double() / outliers.old.double()
        assert torch.allclose(tensor.new.double(), tensor.old.double() * ratio)


def test_names_that_differ_in_case_alone_are_refused() -> None:
    with pytest.raises(ConfigError, match="another variant"):
        check_configs({"a": ZEROED, "A": ZEROED})


@pytest.mark.parametrize(
    "name",
    [
        *("", "a/b", "..", "x-control-0", "a b", "-x", "(original again)", "5", "a.", "a\n"),
        *("ä\x1b[2J", "~", "2024-01-01", "a" * 65, "a" * 250),
    ],
)
def test_names_that_cannot_be_folders_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is named by"):
        check_configs({name: ZEROED})


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
        check_configs({name: ZEROED})


@pytest.mark.parametrize("name", ["no", "null", "true", "a" * 64, "a.b-c_d", "report", "Variants"])
def test_any_other_name_is_taken_as_it_is(name: str) -> None:
    check_configs({name: ZEROED})


def test_a_variant_needs_a_criterion_or_a_patch_and_not_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a criterion") as error:
        check_configs({"a": VariantConfig()})
    assert error.value.key == "model.variants.a.criterion"
    with pytest.raises(ConfigError, match="one of the two") as error:
        check_configs({"a": VariantConfig(AbsoluteThreshold(), patch="x.safetensors")})
    assert error.value.key == "model.variants.a.patch"
    with pytest.raises(ConfigError, match="its own edit"):
        check_configs({"a": VariantConfig(patch="x.safetensors", edit=Clip())})
    with pytest.raises(ConfigError, match="no such file"):
        check_configs({"a": VariantConfig(patch=str(tmp_path / "x.safetensors"))})


def test_a_scope_that_matches_nothing_is_named_in_full() -> None:
    config = VariantConfig(AbsoluteThreshold(), scope=Scope(exclude=["*.nothing"]))
    with torch.device("meta"):
        skeleton = tiny_model("llama")
    with pytest.raises(ConfigError, match="matches no parameter") as error:
        check_scopes({"a": config}, skeleton)
    assert error.value.key == "model.variants.a.scope.exclude"


def test_tied_weights_count_once() -> None:
    model = tiny_model("qwen2")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    everything = VariantConfig(TopFraction(1.0))
    (variant,) = build_variants(model, {"all": everything}, 0)
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert variant.patch.entries == parameter_count(model) == expected
    by_class = entries_by_module_class(variant.patch, model)
    assert by_class["Embedding"] == model.lm_head.weight.numel()
    assert sum(by_class.values()) == expected
