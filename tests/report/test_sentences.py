"""What is said of a run in words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.report.sentences import headlines, remarks
from harness.results.schema import Results
from tests.report.made import make_predicted, make_results, versus


def with_sigma5(**changes: Any) -> Results:
    """Hand-made results in which parts of the variant are others."""
    results = make_results()
    sigma5 = dataclasses.replace(results.variants["sigma5"], **changes)
    return dataclasses.replace(results, variants=results.variants | {"sigma5": sigma5})


def against(**changes: Any) -> Results:
    control = make_results().variants["sigma5"].versus_control
    assert control is not None
    return with_sigma5(versus_control=dataclasses.replace(control, **changes))


def test_the_headline_says_what_was_done_what_it_changed_and_what_chance_would() -> None:
    assert headlines(make_results()) == [
        "sigma5 zeroes 1,243 of 2,500,000 weights (matrices), those beyond 5 sigma of their "
        "tensor: +0.0371 nats per token; 1,243 random ones: +0.0003 [+0.0000, +0.0005]: more than "
        "chance.",
    ]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "more than chance"),
        ({"p_value": 0.05}, "more than chance"),
        # The interval takes the spread of controls for that of a Gaussian, a rank takes nothing.
        ({"p_value": 0.1}, "no more than chance can do"),
        ({"excess_ci95": (-0.01, 0.04)}, "no more than chance can do"),
        ({"excess_ci95": (-0.04, -0.01)}, "less than chance"),
        ({"excess_ci95": None, "controls": 1}, "one control shows no spread"),
        ({"excess_ci95": None}, "one text shows no spread"),
        ({"excess_ci95": None, "excess_delta_nll": None}, "a control is not finite"),
    ],
)
def test_the_verdict_is_that_of_the_controls(changes: dict[str, Any], verdict: str) -> None:
    (sentence,) = headlines(against(**changes))
    assert verdict in sentence.rpartition(": ")[2]


def test_a_variant_without_a_control_says_so() -> None:
    (sentence,) = headlines(with_sigma5(versus_control=None))
    assert sentence.endswith(
        "+0.0371 nats per token; without a control, so it is not known whether random weights "
        "would do as much (model.variants.sigma5.controls: 19)."
    )


def test_a_broken_variant_says_so() -> None:
    (sentence,) = headlines(with_sigma5(versus_original=versus(None, None, None, None, None)))
    assert sentence.endswith("tensor: the likelihood of the text is not finite any more.")


def test_a_saved_patch_is_told_without_its_scope() -> None:
    edit = make_results().variants["sigma5"].edit
    assert edit is not None
    bare = dataclasses.replace(edit, scope=None, in_scope=None, verb=None, which=None)
    (sentence,) = headlines(with_sigma5(edit=bare))
    assert sentence.startswith("sigma5 edits 1,243 of 2,600,000 weights: +0.0371 nats")


def test_remarks_are_the_warnings_and_which_texts_are_missing() -> None:
    assert remarks(make_results()) == ["none: selects nothing, so this variant is the original."]
    results = make_predicted()
    sigma5, control = results.variants["sigma5"], results.controls["sigma5-control-0"]
    assert sigma5.generation is not None
    broken = {count: dataclasses.replace(sigma5.generation, broken=count) for count in (1, 2)}
    variants = results.variants | {"sigma5": dataclasses.replace(sigma5, generation=broken[1])}
    controls = {"sigma5-control-0": dataclasses.replace(control, generation=broken[2])}
    assert remarks(dataclasses.replace(results, variants=variants, controls=controls)) == [
        "sigma5: did not continue 1 of 2 prompts, after which its logits were not finite; what is "
        "said of its texts is of the others.",
        "sigma5-control-0: wrote nothing, as its logits were not finite after any prompt.",
    ]
    assert remarks(results) == []
