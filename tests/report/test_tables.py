"""Rows, sentences and figures, against what is written by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.report.tables import (
    header,
    number,
    p_value,
    rows,
    sentences,
    share,
    signed,
    text_header,
    text_rows,
    title,
)
from harness.results import Activations, Generation, Results
from tests.report.made import make_predicted, make_results, versus


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (97.194, "97.19"),
        (-0.5, "-0.5"),
        (1234.56, "1,235"),
        (0.01, "0.01"),
        (0.00999, "1.0e-02"),
        (2.8e-4, "2.8e-04"),
        (2e6, "2.0e+06"),
        (1e300, "1.0e+300"),
    ],
)
def test_a_number_has_four_digits_or_a_power_of_ten(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(None, "–"), (0.0, "<0.001"), (1e-300, "<0.001"), (0.00099, "<0.001")],
        *[(0.001, "0.001"), (0.04964, "0.050"), (1.0, "1.000")],
    ],
)
def test_a_p_value_has_no_digits_that_mean_nothing(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_changes_and_shares() -> None:
    assert signed(0.03712, (0.0315, 0.0439)) == "+0.0371 [+0.0315, +0.0439]"
    assert signed(-12.5, None) == "-12.5000"
    assert signed(None, (0.0, 1.0)) == share(None) == "–"
    assert share(0.8674) == "86.7"


def test_columns_name_the_confidence() -> None:
    results = make_results()
    assert header(results)[3] == "Δnll [95 % interval]"
    run = dataclasses.replace(results.run, confidence=0.999)
    assert header(dataclasses.replace(results, run=run))[3] == "Δnll [99.9 % interval]"


def test_each_variant_is_followed_by_the_mean_of_its_controls() -> None:
    table = rows(make_results())
    assert [row.cells for row in table] == [
        ("original", "–", "97.19", "–", "–", "–", "–"),
        ("none", "0", "97.19", "+0.0000 [+0.0000, +0.0000]", "0", "100.0", "1.000"),
        ("sigma5", "1,243", "100.9", "+0.0371 [+0.0315, +0.0439]", "0.03248", "86.7", "<0.001"),
        ("  2 controls", "1,243", "97.5", "+0.0003 [+0.0000, +0.0005]", "3.0e-04", "98.5", "–"),
    ]
    assert [row.control for row in table] == [False, False, False, True]


def test_a_mean_of_controls_that_lacks_one_is_no_mean() -> None:
    results = make_results()
    first = results.controls["sigma5-control-0"]
    broken = dataclasses.replace(
        first, likelihood=dataclasses.replace(first.likelihood, perplexity=None)
    )
    controls = results.controls | {"sigma5-control-0": broken}
    assert rows(dataclasses.replace(results, controls=controls))[-1].cells[2] == "–"


def test_sentences_say_what_the_controls_say() -> None:
    results = make_results()
    assert sentences(results) == [
        "sigma5: editing 1,243 entries changes nll by +0.0371; as many random entries of the same "
        "tensors by +0.0003 (mean of 2). That is 128 times as much.",
        "none: selects nothing, so this variant is the original.",
    ]
    sigma5 = results.variants["sigma5"]
    assert sigma5.versus_control is not None
    helpful = dataclasses.replace(sigma5.versus_control, delta_nll=-0.0003, importance_ratio=-124.0)
    variants = {"sigma5": dataclasses.replace(sigma5, versus_control=helpful)}
    (sentence, _) = sentences(dataclasses.replace(results, variants=variants))
    assert sentence.endswith("by -0.0003 (mean of 2).")
    # Of a loss and a gain neither is so many times the other.
    harmful = dataclasses.replace(sigma5.versus_control, importance_ratio=-124.0)
    variants = {"sigma5": dataclasses.replace(sigma5, versus_control=harmful)}
    (sentence, _) = sentences(dataclasses.replace(results, variants=variants))
    assert sentence.endswith("by +0.0003 (mean of 2).")
    # What is no number is in the warnings.
    unknown = dataclasses.replace(sigma5, versus_original=versus(None, None, None, None, None))
    assert len(sentences(dataclasses.replace(results, variants={"sigma5": unknown}))) == 1


def test_sentences_say_which_texts_are_missing() -> None:
    results = make_predicted()
    sigma5, control = results.variants["sigma5"], results.controls["sigma5-control-0"]
    assert sigma5.generation is not None
    broken = {count: dataclasses.replace(sigma5.generation, broken=count) for count in (1, 2)}
    variants = results.variants | {"sigma5": dataclasses.replace(sigma5, generation=broken[1])}
    controls = {"sigma5-control-0": dataclasses.replace(control, generation=broken[2])}
    said = sentences(dataclasses.replace(results, variants=variants, controls=controls))
    assert said == [
        "sigma5: did not continue 1 of 2 prompts, after which its logits were not finite; what is "
        "said of its texts is of the others.",
        "sigma5-control-0: wrote nothing, as its logits were not finite after any prompt.",
    ]
    assert sentences(results) == []


def test_the_title_has_the_last_part_of_paths_alone() -> None:
    results = make_results()
    assert title(results) == "llama on a.txt"
    data = dataclasses.replace(results.data, dataset=["/texts/a.txt", "some/hub"])
    model = dataclasses.replace(results.model, pretrained="google/gemma")
    assert title(dataclasses.replace(results, data=data, model=model)) == (
        "google/gemma on a.txt, some/hub"
    )


# -- texts and activations ---------------------------------------------------------------------


def looked_at(results: Results) -> Results:
    """The results with texts of the original, a variant and its first control, and what flowed."""
    texts = {
        "original": Generation(
            0.125, 0.5, 0.98765, 0.05, 800, 20, 0, ci95={"seq_rep_4": (0.1, 0.2)}
        ),
        "sigma5": Generation(None, None, None, None, 0, 20, 20, None, None, {"seq_rep_4": None}),
        "sigma5-control-0": Generation(0.13, 0.5, 0.0012, 0.125, 780, 20, 1, 0.874, 4.0),
    }
    flows = {
        "original": Activations(12345.6, "model.layers.1", 987.65, "model.layers.0", 1234),
        "sigma5": Activations(None, None, None, None, None),
    }

    def whole(records: Any) -> Any:
        return {
            name: dataclasses.replace(
                record, generation=texts.get(name), activations=flows.get(name)
            )
            for name, record in records.items()
        }

    return dataclasses.replace(
        results, variants=whole(results.variants), controls=whole(results.controls)
    )


def test_texts_and_activations_of_variants_and_first_controls() -> None:
    results = looked_at(make_results())
    assert text_header(results) == (
        *("variant", "seq-rep-4 [95 %]", "diversity", "loops %", "same %"),
        *("max |x|", "kurtosis", "massive"),
    )
    table = text_rows(results)
    nothing = ("–",) * 7
    assert [row.cells for row in table] == [
        ("original", "0.125 [0.10, 0.20]", "0.9877", "5.0", "–", "1.235e+04", "987.6", "1,234"),
        ("none", *nothing),
        ("sigma5", *nothing),
        ("  control", "0.130", "1.2e-03", "12.5", "87.4", "–", "–", "–"),
    ]
    assert [row.control for row in table] == [False, False, False, True]
    assert {len(row.cells) for row in table} == {len(text_header(results))}
    run = dataclasses.replace(results.run, confidence=0.9)
    assert text_header(dataclasses.replace(results, run=run))[1] == "seq-rep-4 [90 %]"


def test_where_nothing_was_looked_at_there_is_no_table() -> None:
    results = make_results()
    assert text_rows(results) == []
    flow = Activations(1.0, "a", 3.0, "a", 0)
    original = dataclasses.replace(results.variants["original"], activations=flow)
    variants = results.variants | {"original": original}
    table = text_rows(dataclasses.replace(results, variants=variants))
    assert table[0].cells == ("original", "1", "3", "0")
    assert len(table) == 4
    assert text_header(dataclasses.replace(results, variants=variants))[1] == "max |x|"
    written = dataclasses.replace(looked_at(results).variants["original"], activations=None)
    only_written = dataclasses.replace(results, variants={"original": written})
    assert text_header(only_written)[1:] == ("seq-rep-4 [95 %]", "diversity", "loops %", "same %")
    assert [len(row.cells) for row in text_rows(only_written)] == [5]
