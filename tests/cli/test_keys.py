"""The keys that are read from the sources are those that the parser has."""

from __future__ import annotations

import dataclasses

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from harness.cli.commands import DEFAULTS, HarnessCLI
from harness.cli.keys import CHOSEN, GROUPS, choices, class_named, find_key, known_keys, taken
from harness.cli.page import PAGE
from harness.errors import ConfigError
from harness.evaluation.training import Training
from harness.outliers import Criterion, Edit, Scope
from harness.outliers.variants import VariantConfig
from harness.writing.settings import Generation


@pytest.fixture(scope="module")
def parser() -> LightningArgumentParser:
    """The parser of one command."""
    cli = HarnessCLI.__new__(HarnessCLI)
    made = LightningArgumentParser(parser_mode="harness")
    cli.add_core_arguments_to_parser(made)
    cli.add_arguments_to_parser(made)
    return made


def test_the_keys_are_those_of_the_parser(parser: LightningArgumentParser) -> None:
    has = {action.dest for action in parser._actions}
    has = {dest for dest in has if dest.partition(".")[0] in GROUPS and "help" not in dest}
    has -= {*GROUPS, "data.source", "model.activations", "activations.sites"}
    inner = ("model.variants.*", "model.generation", "model.training")
    read = {
        f"{above}.{name}"
        for above, names in known_keys().items()
        for name in names
        if above and not above.startswith(inner)
    }
    assert read - {"activations.sites"} == has


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("model.generation", Generation),
        ("model.training", Training),
        ("model.variants.any", VariantConfig),
        ("model.variants.any.scope", Scope),
    ],
)
def test_settings_within_a_group_have_the_keys_of_their_class(key: str, settings: type) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(settings)
    tops = {action.dest.partition(".")[0] for action in parser._actions} - {"help"}
    assert set(find_key(key, {})[1]) == tops


def test_the_classes_are_those_that_there_are() -> None:
    for kind, base in (("criterion", Criterion), ("edit", Edit)):
        own = [c for c in base.__subclasses__() if c.__module__.startswith("harness.")]
        fields = {cls.__name__: [field.name for field in dataclasses.fields(cls)] for cls in own}
        assert choices(kind) == fields
    assert taken("edit") == "Zero takes none, Epsilon takes value, Clip takes none"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("edit", "zero", "Zero"),
        ("edit", "ZERO", "Zero"),
        ("criterion", "sigmathreshold", "SigmaThreshold"),
        ("criterion", "sigma_threshold", "SigmaThreshold"),
        ("criterion", "top-fraction", "TopFraction"),
        ("criterion", "mine.Own", "mine.Own"),
        ("criterion", "zero", "zero"),
    ],
)
def test_a_class_is_found_whatever_its_case(kind: str, name: str, expected: str) -> None:
    assert class_named(kind, name) == expected


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("model.pretraind", "model.pretrained"),
        ("modle.pretrained", "model.pretrained"),
        ("data.batchsize", "data.batch_size"),
        ("data.batch-size", "data.batch_size"),
        ("pretrained", "model.pretrained"),
        ("batch_size", "data.batch_size"),
        ("seed", "seed_everything"),
        ("model.variants.mine.critrion", "model.variants.mine.criterion"),
        ("model.variants.a.b.scope.includ", "model.variants.a.b.scope.include"),
        ("model.variants.mine.scope.matrices", "model.variants.mine.scope.matrices_only"),
        ("model.generation.max_tokens", "model.generation.max_new_tokens"),
        ("activations.sites.typs", "activations.sites.types"),
        ("trainer.max_step", "trainer.max_steps"),
    ],
)
def test_the_nearest_key_is_asked_for(key: str, meant: str) -> None:
    with pytest.raises(ConfigError) as error:
        find_key(key, "x")
    assert error.value.reason == f"no such key; did you mean {meant}?"


@pytest.mark.parametrize(
    "key",
    [
        "seed_everything",
        "model.variants.no.criterion.threshold",
        "model.variants.a.edit.anything",
        "model.variants.a.b.c.criterion.threshold",
        "trainer.callbacks+",
        "trainer.logger.save_dir",
        "model.architecture.hidden_size",
        "model.generation.arguments.min_p",
        "data.splits.validate",
        "trainer.accelerator.help",
    ],
)
def test_whatever_stands_below_a_key_with_a_value_of_its_own_is_left_alone(key: str) -> None:
    find_key(key, "x")


def test_the_first_page_tells_the_defaults(parser: LightningArgumentParser) -> None:
    defaults = parser.get_defaults()
    for key, shown in {
        "model.pretrained": "demo",
        "model.dtype": "auto",
        "data.dataset": "demo",
        "data.max_length": "null",
        "data.batch_size": "8",
        "model.generation.max_new_tokens": "40",
        "run.name": "null",
    }.items():
        group, _, name = key.rpartition(".")
        value = DEFAULTS[group][name] if group in DEFAULTS else defaults[key]
        assert ("null" if value is None else str(value)) == shown
        part = PAGE.partition(f"--{key}")[2].partition("\n")[0]
        assert f"({shown}" in part, key
    for kind in CHOSEN:
        assert all(name in PAGE for name in choices(kind))
    assert defaults["trainer.devices"] == "auto"
