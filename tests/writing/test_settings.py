"""Settings of generated text: what goes through as it is, and what is refused, and how."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.writing.settings import Generation
from tests.tiny import tiny_model

KEY = "model.generation"
END, PAD = 257, 258


def refused(**settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        Generation(**settings).check(KEY)
    assert "\n" not in str(error.value)
    return error.value


def tried(**settings: Any) -> None:
    """Settings that are accepted without a model are tried on one."""
    generation = Generation(**settings)
    generation.check(KEY)
    generation.try_on(tiny_model("llama"), KEY, end_ids={END}, pad_id=PAD)


def refused_by_trial(**settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        tried(**settings)
    assert error.value.reason.startswith("generate of transformers fails on it: ")
    assert "\n" not in str(error.value)
    assert len(error.value.reason) < 400
    return error.value


@pytest.mark.parametrize("sampled", [False, True])
def test_a_temperature_is_neither_zero_nor_one_that_logits_overflow_by(sampled: bool) -> None:
    for wrong in (0.0, -1.0, 1e-30, 1e30, math.inf, -math.inf, math.nan):
        error = refused(temperature=wrong, do_sample=sampled)
        assert error.key == "model.generation.temperature"
        assert error.reason.startswith("must be above 0, from 1e-6 to 1e6; ")
        assert "do_sample: false takes the likeliest token" in error.reason
    for right in (1e-6, 0.7, 1.0, 1e6):
        Generation(temperature=right, do_sample=True).check(KEY)


def test_a_penalty_is_a_number_that_can_be_divided_by() -> None:
    for wrong in (0.0, -1.0, 1e-300, math.inf, math.nan):
        assert refused(repetition_penalty=wrong).reason == "must be above 0, from 1e-6 to 1e6"


SHARES = ("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")


@pytest.mark.parametrize("value", [0, 0.0, 1, 1.5, -0.1, math.nan, True, "x", [0.5]])
@pytest.mark.parametrize("name", SHARES)
def test_a_share_is_above_0_and_below_1(name: str, value: object) -> None:
    error = refused(arguments={name: value}, do_sample=True)
    assert error.key == f"model.generation.arguments.{name}"
    assert error.reason == "must be above 0 and below 1"


@pytest.mark.parametrize("value", [-1, 1.5, True, "x", [3]])
@pytest.mark.parametrize("name", ["min_new_tokens", "no_repeat_ngram_size"])
def test_a_count_is_a_whole_number(name: str, value: Any) -> None:
    for settings, key in (
        ({name: value}, name),
        ({"arguments": {name: value}}, f"arguments.{name}"),
    ):
        error = refused(**settings)
        assert error.key == f"model.generation.{key}"
        assert error.reason == "must be a whole number from 0 on"


def test_no_more_tokens_are_demanded_than_there_may_be() -> None:
    Generation(min_new_tokens=40).check(KEY)
    for settings in ({"min_new_tokens": 41}, {"arguments": {"min_new_tokens": 41}}):
        reason = refused(**settings).reason
        assert reason == "must not be above model.generation.max_new_tokens=40"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"temperature": 1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.0}, "top_p"),
        ({"min_p": 0.1}, "min_p"),
        ({"typical_p": 0.1}, "typical_p"),
        ({"arguments": {"temperature": 0.5}}, "arguments.temperature"),
        *(({"arguments": {name: 0.1}}, f"arguments.{name}") for name in SHARES),
    ],
)
def test_what_only_drawing_uses_is_not_passed_over(settings: dict[str, Any], key: str) -> None:
    error = refused(**settings)
    assert error.key == f"model.generation.{key}"
    assert "set model.generation.do_sample: true, or leave it out" in error.reason
    Generation(do_sample=True, **settings).check(KEY)


def test_what_is_left_to_the_model_is_no_setting() -> None:
    Generation().check(KEY)
    Generation(repetition_penalty=1.2).check(KEY)
    assert Generation().to_arguments() == {"max_new_tokens": 40, "do_sample": False}


def test_what_has_a_key_of_its_own_may_stand_in_either_place() -> None:
    given: dict[str, Any] = {
        "min_new_tokens": 3,
        "min_p": 0.05,
        "typical_p": 0.9,
        "no_repeat_ngram_size": 2,
        "temperature": 0.5,
    }
    expected = {"max_new_tokens": 40, "do_sample": True, **given}
    for settings in (given, {"arguments": given}):
        generation = Generation(do_sample=True, **settings)
        generation.check(KEY)
        assert generation.to_arguments() == expected
    Generation(arguments={"min_p": 0.1, "no_repeat_ngram_size": None}, do_sample=True).check(KEY)


@pytest.mark.parametrize(
    ("name", "own"), [("min_p", 0.1), ("max_new_tokens", 40), ("do_sample", True)]
)
def test_what_is_set_is_not_set_again(name: str, own: object) -> None:
    error = refused(do_sample=True, min_p=0.1, arguments={name: own})
    assert error.key == f"model.generation.arguments.{name}"
    assert error.reason == f"is not free: set model.generation.{name}, which is {own}"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("no_such", 1, "generate of transformers has no such argument"),
        ("seed", 1, "generate of transformers has no such argument"),
        ("_from_model_config", True, "generate of transformers has no such argument"),
        ("custom_generate", "someone/code", "generate of transformers has no such argument"),
        ("logits_processor", [], "generate of transformers has no such argument"),
        ("max_time", 1.0, "is not free: texts would depend on the speed of the machine"),
        ("remove_invalid_values", True, "is not free: logits that are not finite"),
        ("max_length", 50, "is not free: it would be passed over; set max_new_tokens"),
        ("guidance_scale", 2.0, "is not free: a second pass"),
        ("prefill_chunk_size", 8, "is not free: pieces of prompts"),
        ("eos_token_id", 3, "is not free: the harness gives it itself"),
        ("cache_implementation", "paged", "prompts would be batched anew"),
    ],
)
def test_what_would_spoil_the_measurement_is_refused_by_name(
    name: str, value: object, says: str
) -> None:
    error = refused(arguments={"renormalize_logits": True, name: value})
    assert (error.key, error.value) == (f"model.generation.arguments.{name}", value)
    assert error.reason.startswith(says)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("cache_implementation", "nonsense", "Choose one of: "),
        ("num_return_sequences", 2, "Greedy methods"),
        ("early_stopping", True, "only used in beam-based generation"),
        ("length_penalty", 2.0, "only used in beam-based generation"),
        ("output_scores", True, "`output_scores` is ignored"),
        ("suppress_tokens", 3, "TypeError: 'int' object is not iterable"),
    ],
)
def test_what_transformers_says_against_values_is_said_before_a_model_is_there(
    name: str, value: object, says: str
) -> None:
    error = refused(arguments={"renormalize_logits": True, name: value})
    assert (error.key, error.value) == (f"model.generation.arguments.{name}", value)
    assert error.reason.startswith("transformers refuses it: ")
    assert says in error.reason


def test_arguments_that_only_fail_together_are_named_together() -> None:
    arguments = {"suppress_tokens": [7], "forced_eos_token_id": 7}
    error = refused(arguments=arguments)
    assert (error.key, error.value) == ("model.generation.arguments", arguments)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("num_beams", 4, "2 prompts have 8 texts, not one each"),
        ("bad_words_ids", [], "has to be a non-empty list, but is []"),
        ("bad_words_ids", [[1000]], "vocabulary size is "),
        ("sequence_bias", "x", "is x"),
        ("exponential_decay_length_penalty", 3, "TypeError: 'int' object is not subscriptable"),
        ("forced_eos_token_id", "x", ""),
        ("stop_strings", "x", "stop strings"),
        ("prompt_lookup_num_tokens", 2, "assisted generate"),
        ("penalty_alpha", 0.6, "trust_remote_code"),
    ],
)
def test_what_the_model_cannot_be_measured_with_is_tried_out(
    name: str, value: object, says: str
) -> None:
    error = refused_by_trial(arguments={"renormalize_logits": True, name: value})
    assert (error.key, error.value) == (f"model.generation.arguments.{name}", value)
    assert says in error.reason


def test_several_texts_to_a_prompt_are_found_where_they_are_drawn() -> None:
    error = refused_by_trial(arguments={"num_return_sequences": 3}, do_sample=True)
    assert error.key == "model.generation.arguments.num_return_sequences"
    assert error.reason.endswith("2 prompts have 6 texts, not one each")


def test_a_model_that_fails_on_arguments_together_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama")
    generate = model.generate

    def picky(**given: Any) -> Any:
        if {"suppress_tokens", "renormalize_logits"} <= set(given):
            raise RuntimeError("not both\nof them")
        return generate(**given)

    monkeypatch.setattr(model, "generate", picky)
    arguments = {"suppress_tokens": [7], "renormalize_logits": True}
    with pytest.raises(ConfigError) as error:
        Generation(arguments=arguments).try_on(model, KEY, end_ids={END}, pad_id=PAD)
    assert (error.value.key, error.value.value) == ("model.generation.arguments", arguments)
    assert error.value.reason.endswith("fails on it: RuntimeError: not both")


def test_without_further_arguments_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    monkeypatch.setattr(model, "generate", None)
    settings: dict[str, Any] = {"do_sample": True, "min_p": 0.1, "no_repeat_ngram_size": 2}
    Generation(**settings).try_on(model, KEY, end_ids={END}, pad_id=PAD)


def test_a_trial_writes_a_few_tokens_after_prompts_of_different_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama")
    generate, calls = model.generate, []

    def noting(**given: Any) -> Any:
        calls.append(given)
        return generate(**given)

    monkeypatch.setattr(model, "generate", noting)
    settings: dict[str, Any] = {"max_new_tokens": 200, "arguments": {"min_new_tokens": 150}}
    Generation(**settings).try_on(model, KEY, end_ids={END, 0}, pad_id=1)
    (call,) = calls
    assert (call["max_new_tokens"], call["min_new_tokens"]) == (3, 3)
    assert call["attention_mask"].sum(1).tolist() == [1, 3]
    # Neither a token that ends a text nor padding.
    assert call["input_ids"].tolist() == [[1, 1, 2], [2, 2, 2]]


def test_a_trial_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    arguments = {
        "bad_words_ids": [[1, 2], [3]],
        "begin_suppress_tokens": [4],
        "cache_implementation": "static",
        "exponential_decay_length_penalty": [3, 1.1],
        "min_length": 50,  # of which the length of a prompt decides
        "min_new_tokens": 40,
        "no_repeat_ngram_size": 3,
        "renormalize_logits": True,
        "sequence_bias": [[[1, 2], 1.5]],
        "suppress_tokens": [1, 2],
        "use_cache": True,
    }
    model = tiny_model("llama")
    own, state = model.generation_config, torch.get_rng_state()
    tried(do_sample=True, temperature=0.5, top_k=5, arguments=arguments)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.generation_config is own
    assert capfd.readouterr() == ("", "")
