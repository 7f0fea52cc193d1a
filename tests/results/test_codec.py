"""The text of results.json."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from harness.results.codec import to_json
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


def assert_same(read: Any, made: Any) -> None:
    """What is read back is what was written, field by field, to the last digit."""
    if dataclasses.is_dataclass(made):
        values = [getattr(made, field.name) for field in dataclasses.fields(made)]
        for got, expected in zip(read.values(), values, strict=True):
            assert_same(got, expected)
    elif isinstance(made, dict):
        assert list(read) == list(made)
        for name, expected in made.items():
            assert_same(read[name], expected)
    else:
        assert read == (list(made) if isinstance(made, tuple) else made)
        assert type(read) is (list if isinstance(made, tuple) else type(made))


def test_what_is_read_back_is_equal_to_the_last_digit() -> None:
    results = make_results()
    assert_same(json.loads(to_json(results)), results)


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
    read = json.loads(text)["variants"]["broken"]
    assert list(read["likelihood"].values()) == [None, None, 1.0, None, None]
    assert read["versus_original"]["kl_max"] is None
    assert read["versus_original"]["kl_p50"] == 0.0


def test_names_that_are_keys_elsewhere_stay_what_they_are() -> None:
    results = dataclasses.replace(make_results(), variants={"class_name": VariantRecord()})
    assert list(json.loads(to_json(results))["variants"]) == ["class_name"]
