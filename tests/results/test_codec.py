"""The text of results.json: written, read, and refused."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.results.codec import decode, encode, from_json, to_json
from harness.results.schema import (
    SCHEMA_VERSION,
    ActivationRecord,
    DataRecord,
    EditRecord,
    Likelihood,
    ModelRecord,
    NoiseFloor,
    ObserverRecord,
    Results,
    Rounding,
    RunRecord,
    TextRecord,
    VariantRecord,
    VersusControl,
    VersusOriginal,
)


def make_results() -> Results:
    original = VariantRecord(Likelihood(1 / 3, 1.3956124250860895, 2.5, None, 0.1 + 0.2))
    versus_original = VersusOriginal(
        1e-17, (-0.1, 0.30000000000000004), 0.0002, 1.01, 0.1, 0.05, 2.0, 7.5, 0.93
    )
    zeroed = VariantRecord(
        Likelihood(2.0, 7.4, None, None, None),
        EditRecord(
            "AbsoluteThreshold(threshold=5.0)",
            "Zero()",
            3,
            1e-6,
            {"Linear": 2, "é": 1},
            None,
            False,
        ),
        versus_original,
        VersusControl(19, 0.001, (-0.1, 0.1), 0.2, (0.1, 0.3), None, 0.05, -0.2, 1e-17),
        TextRecord(
            0.25,
            0.5,
            None,
            0.0,
            800,
            20,
            1,
            0.75,
            3.5,
            {"seq_rep_4": (0.2, 0.30000000000000004), "diversity": None},
            {"seq_rep_4": 1e-17},
            {"seq_rep_4": None},
            {"rouge1": 0.5, "rouge2": None},
        ),
        ActivationRecord(666.5, "model.layers.1", 13.0, "model.layers.2.mlp.down_proj", 4),
    )
    return Results(
        RunRecord("demo", 0, "validate", None, 1, "32-true", 12.5, False),
        ModelRecord("demo", None, "LlamaForCausalLM", 4_000_000, "bfloat16"),
        DataRecord(
            "demo",
            "validation",
            62,
            120,
            9_999,
            8_000,
            None,
            256,
            128,
            "document",
            "auto",
            "rolling",
        ),
        NoiseFloor(0.0, 0.0, Rounding(1024, 1e-17, 0.00125, 0.976)),
        {"original": original, "zeroed": zeroed},
        {"zeroed-control-0": dataclasses.replace(zeroed, versus_control=None)},
        ("zeroed: look closely",),
        observed=ObserverRecord(6.0, 5.5, 100.0, 1000.0, 4),
    )


def changed(**values: object) -> str:
    """The file with the values at these dotted paths (``__`` for a dot) set; ``...`` removes."""
    content = json.loads(to_json(make_results()))
    for path, value in values.items():
        *parents, last = path.split("__")
        place = content
        for name in parents:
            place = place[name]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return json.dumps(content)


def test_round_trip_is_equal_to_the_last_digit() -> None:
    results = make_results()
    text = to_json(results)
    assert from_json(text) == results
    assert to_json(from_json(text)) == text
    assert from_json(text) != dataclasses.replace(results, warnings=())


def test_the_file_has_the_documented_keys_in_their_order() -> None:
    content = json.loads(to_json(make_results()))
    assert list(content) == [
        *("schema_version", "run", "model", "data", "noise_floor", "observed"),
        *("variants", "controls", "warnings"),
    ]
    keys = {
        "run": "name version command seed world_size precision duration_seconds partial "
        "confidence resamples arguments started versions",
        "model": "pretrained revision class parameters dtype",
        "data": "dataset split documents windows tokens words bytes max_length stride join bos "
        "windows_kind text_column",
        "noise_floor": "delta_nll kl_mean rounding",
        "observed": "threshold sigmas massive_threshold massive_ratio every_n_steps",
    }
    assert {name: " ".join(content[name]) for name in keys} == keys
    zeroed = content["variants"]["zeroed"]
    keys = {
        "likelihood": "nll perplexity word_perplexity byte_perplexity bits_per_byte",
        "edit": "criterion edit entries fraction by_module_class patch is_original scope in_scope "
        "verb which share_of_scope nearest",
        "versus_original": "delta_nll delta_nll_ci95 p_value perplexity_ratio kl_mean kl_p50 "
        "kl_p99 kl_max top1_agreement",
        "versus_control": "controls delta_nll delta_nll_ci95 excess_delta_nll excess_ci95 "
        "importance_ratio p_value lowest highest",
        "generation": "seq_rep_4 distinct_2 diversity loop_rate tokens prompts broken "
        "identical_to_original first_divergence ci95 delta delta_ci95 metrics nll_under_original "
        "texts mean_tokens",
        "activations": "max_abs max_abs_site max_kurtosis max_kurtosis_site massive_count",
    }
    assert {name: " ".join(record) for name, record in zeroed.items()} == keys
    assert content["schema_version"] == SCHEMA_VERSION
    assert zeroed["versus_original"]["delta_nll_ci95"] == [-0.1, 0.30000000000000004]
    assert zeroed["edit"]["by_module_class"] == {"Linear": 2, "é": 1}
    assert content["variants"]["original"]["edit"] is None


def test_the_text_is_indented_with_every_digit() -> None:
    text = to_json(make_results())
    assert text.startswith('{\n  "schema_version": 1,\n  "run": {\n    "name": "demo",')
    assert '"bits_per_byte": 0.30000000000000004' in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(bad: float) -> None:
    broken = VariantRecord(
        Likelihood(bad, bad, 1.0, None, None),
        versus_original=VersusOriginal(bad, None, None, bad, bad, 0.0, 0.0, bad, 0.5),
    )
    text = to_json(dataclasses.replace(make_results(), variants={"broken": broken}))
    assert "NaN" not in text
    assert "Infinity" not in text
    read = from_json(text).variants["broken"]
    assert read.likelihood == Likelihood(None, None, 1.0, None, None)
    assert read.versus_original is not None
    assert read.versus_original.kl_max is None


def test_keys_of_later_versions_are_ignored_and_optional_ones_may_be_missing() -> None:
    text = changed(variants__zeroed__flips={"share": 0.5}, controls=..., extra=1)
    assert from_json(text) == dataclasses.replace(make_results(), controls={})


def test_several_files_are_a_list() -> None:
    data = dataclasses.replace(make_results().data, dataset=["a.txt", "b.txt"])
    text = changed(data__dataset=["a.txt", "b.txt"])
    assert from_json(text) == dataclasses.replace(make_results(), data=data)
    assert json.loads(to_json(from_json(text))) == json.loads(text)


def test_whole_numbers_stand_for_floats() -> None:
    nll = from_json(changed(variants__zeroed__likelihood__nll=2)).variants["zeroed"].likelihood.nll
    assert nll == 2.0
    assert type(nll) is float


@pytest.mark.parametrize("version", [0, 2, "1", None, ...])
def test_another_schema_version_is_refused(version: Any) -> None:
    with pytest.raises(ConfigError, match="this harness reads 1") as caught:
        from_json(changed(schema_version=version))
    assert caught.value.key == "schema_version"


@pytest.mark.parametrize("text", ["", "{", '{"run": 1', "nonsense"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not JSON"):
        from_json(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data__words", "many"),
        ("data__dataset", None),
        ("data__dataset", ["a.txt", 3]),
        ("data__tokens", None),
        ("data__windows", ...),
        ("data__documents", 1.5),
        ("run", []),
        ("run__partial", 0),
        ("run__world_size", True),
        ("model__class", ...),
        ("variants__zeroed__likelihood", 3),
        ("variants__zeroed__likelihood__nll", "2.0"),
        ("variants__zeroed__versus_original__delta_nll_ci95", [0.1]),
        ("variants__zeroed__edit__by_module_class", [["Linear", 2]]),
        ("warnings", "careful"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(path: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(changed(**{path: value}))
    assert caught.value.key == path.replace("__", ".")
    assert "\n" not in str(caught.value)


# -- other dataclasses -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inner:
    low: float
    pair: tuple[int, str]


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: dict[str, Inner]
    many: tuple[Inner, ...] = ()
    name: str | None = None


def test_any_dataclass_is_encoded_and_decoded() -> None:
    value = Outer({"a": Inner(1.5, (1, "x"))}, (Inner(-math.inf, (2, "y")),))
    encoded = encode(value)
    assert encoded == {
        "inner": {"a": {"low": 1.5, "pair": [1, "x"]}},
        "many": [{"low": -math.inf, "pair": [2, "y"]}],
        "name": None,
    }
    assert decode(Outer, encoded, "state") == value


def test_encoded_floats_stay_what_they_are() -> None:
    assert math.isnan(encode(Inner(math.nan, (1, "x")))["low"])


@pytest.mark.parametrize(
    ("encoded", "key", "reason"),
    [
        ({}, "state.inner", "is missing, and Outer needs it"),
        ({"inner": {"a": {"low": 1, "pair": ["x", 1]}}}, "state.inner.a.pair", "of type int"),
        ({"inner": {}, "name": 3}, "state.name", "of type str"),
    ],
)
def test_what_does_not_fit_a_dataclass_is_refused(encoded: Any, key: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        decode(Outer, encoded, "state")
    assert caught.value.key == key
