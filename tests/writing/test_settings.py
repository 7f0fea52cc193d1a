"""Settings of generated text: what goes through as it is, and what is refused, and how."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.writing.settings import Generation

KEY = "model.generation"


def refused(**settings: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        Generation(**settings).check(KEY)
    assert "\n" not in str(error.value)
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


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"temperature": 1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.0}, "top_p"),
        *(
            ({"arguments": {name: 0.1}}, f"arguments.{name}")
            for name in ("min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
        ),
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
    Generation(arguments={"min_p": 0.1, "no_repeat_ngram_size": None}, do_sample=True).check(KEY)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("bad_words_ids", 3, "must be a list of lists of token ids"),
        ("bad_words_ids", [3], "must be a list of lists of token ids"),
        ("bad_words_ids", [["x"]], "must be a list of lists of token ids"),
        ("suppress_tokens", "abc", "must be a list of token ids"),
        ("begin_suppress_tokens", [1.5], "must be a list of token ids"),
        ("no_repeat_ngram_size", "x", "must be a whole number from 0 on"),
        ("no_repeat_ngram_size", -2, "must be a whole number from 0 on"),
        ("no_repeat_ngram_size", True, "must be a whole number from 0 on"),
        ("renormalize_logits", [1], "must be true or false"),
        ("use_cache", "no", "must be true or false"),
        ("cache_implementation", 3, "must be text"),
        ("cache_config", 3, "must be a mapping"),
    ],
)
def test_the_type_is_the_one_that_transformers_documents(
    name: str, value: object, reason: str
) -> None:
    error = refused(arguments={name: value})
    assert (error.key, error.value) == (f"model.generation.arguments.{name}", value)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("bad_words_ids", [], "has to be a non-empty list, but is []"),
        ("sequence_bias", "x", "is x; it is documented as dict[tuple[int], float]"),
        ("exponential_decay_length_penalty", 3, "; it is documented as tuple(int, float)"),
        ("forced_eos_token_id", "x", "fails on it: "),
        ("cache_implementation", "nonsense", "Choose one of: "),
        ("min_new_tokens", 41, "Unfeasible length constraints"),
    ],
)
def test_what_generate_fails_on_is_tried_out(name: str, value: object, says: str) -> None:
    error = refused(arguments={"renormalize_logits": True, name: value})
    assert (error.key, error.value) == (f"model.generation.arguments.{name}", value)
    assert error.reason.startswith("generate of transformers fails on it: ")
    assert says in error.reason
    assert len(error.reason) < 400


def test_arguments_that_only_fail_together_are_named_together() -> None:
    arguments = {"suppress_tokens": [7], "forced_eos_token_id": 7}
    error = refused(arguments=arguments)
    assert (error.key, error.value) == ("model.generation.arguments", arguments)


def test_tokens_that_the_model_does_not_have() -> None:
    arguments = {"bad_words_ids": [[300]]}
    Generation(arguments=arguments).check(KEY)
    Generation(arguments=arguments).rehearse(KEY, 301)
    with pytest.raises(ConfigError, match="vocabulary size is 300") as error:
        Generation(arguments=arguments).rehearse(KEY, 300)
    assert error.value.key == "model.generation.arguments.bad_words_ids"


@pytest.mark.parametrize(
    "name", ["length_penalty", "early_stopping", "num_assistant_tokens", "guidance_scale"]
)
def test_what_would_do_nothing_is_refused(name: str) -> None:
    assert refused(arguments={name: 2}).reason.startswith("is for beams, a second model")


def test_trying_out_what_is_right_leaves_no_trace(
    capfd: pytest.CaptureFixture[str],
) -> None:
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
    state = torch.get_rng_state()
    Generation(do_sample=True, temperature=0.5, top_k=5, arguments=arguments).check(KEY)
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
