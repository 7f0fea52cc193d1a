"""Patterns of parameter names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.errors import ConfigError
from harness.outliers import Scope
from tests.outliers.models import UNIQUE, Awkward
from tests.tiny import tiny_model


def test_by_default_everything_that_floats_is_in_scope() -> None:
    assert list(Scope().select(Awkward())) == UNIQUE


def test_exclude_wins_over_include() -> None:
    scope = Scope(include=["s*", "bias"], exclude=["scale"])
    assert list(scope.select(Awkward())) == ["sliced", "bias"]


@pytest.mark.parametrize("alias", ["embedding", "head", "view", "he?d", "vi*"])
def test_any_name_of_a_tied_parameter_will_do(alias: str) -> None:
    assert list(Scope(include=[alias]).select(Awkward())) == ["embedding"]
    assert "embedding" not in Scope(exclude=[alias]).select(Awkward())


def test_matrices_only_leaves_out_scalars_and_vectors() -> None:
    expected = [name for name in UNIQUE if name not in ("scale", "bias")]
    assert list(Scope(matrices_only=True).select(Awkward())) == expected


def test_patterns_mind_case_and_reach_across_dots() -> None:
    model = tiny_model("llama")
    chosen = Scope(include=["*.mlp.*"]).select(model)
    assert len(chosen) == 6
    with pytest.raises(ConfigError, match="matches no parameter"):
        Scope(include=["*.MLP.*"]).select(model)


@pytest.mark.parametrize("key", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_refused(key: str) -> None:
    with pytest.raises(ConfigError) as error:
        Scope(**{key: ["*", "embeding"]}).select(Awkward())
    assert error.value.key == key
    assert error.value.value == "embeding"
    assert "embedding" in error.value.reason
    assert "\n" not in str(error.value)


def test_integers_are_no_match() -> None:
    with pytest.raises(ConfigError):
        Scope(include=["count"]).select(Awkward())


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        (Scope(include=[]), "include"),
        (Scope(exclude=["*"]), "exclude"),
        (Scope(include=["bias"], matrices_only=True), "matrices_only"),
    ],
)
def test_a_scope_of_nothing_is_refused(scope: Scope, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        scope.select(Awkward())
    assert error.value.key == key


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ConfigError, match="none"):
        Scope().select(nn.Identity())


@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt2"])
def test_the_meta_device_gives_the_same_names(family: str) -> None:
    with torch.device("meta"):
        skeleton = tiny_model(family)
    assert all(p.is_meta for p in Scope().select(skeleton).values())
    assert list(Scope().select(skeleton)) == list(Scope().select(tiny_model(family)))


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (Scope(), "all weights"),
        (Scope(matrices_only=True), "matrices"),
        (Scope(exclude=["*norm*"]), "all weights but not *norm*"),
        (Scope(["*.mlp.*", "head"]), "parameters named *.mlp.*, head"),
        (Scope(["*.mlp.*"], ["*up*", "*.1.*"], True), "matrices named *.mlp.* but not *up*, *.1.*"),
    ],
)
def test_a_scope_in_words(scope: Scope, words: str) -> None:
    assert str(scope) == words
