"""Tables against what is written by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.report.tables import Table, tables
from harness.results.schema import (
    ActivationRecord,
    ObserverRecord,
    Results,
    TextRecord,
)
from tests.report.made import make_predicted, make_results


def find(results: Results, caption: str) -> Table:
    (table,) = [table for table in tables(results) if table.caption == caption]
    return table


def captions(results: Results) -> list[str]:
    return [table.caption for table in tables(results)]


def test_each_variant_is_followed_by_the_mean_of_its_controls() -> None:
    table = find(make_results(), "effects")
    assert table.header == (*("variant", "ppl", "Δnll [95 %]", "KL", "top-1 %", "p (texts)"),)
    assert [row.cells for row in table.rows] == [
        ("original", "97.19", "–", "–", "–", "–"),
        ("none", "97.19", "+0.0000 [+0.0000, +0.0000]", "0", "100.0", "1.000"),
        ("sigma5", "100.9", "+0.0371 [+0.0315, +0.0439]", "0.03248", "86.7", "<0.001"),
        ("  2 controls", "97.5", "+0.0003 [+0.0000, +0.0005]", "3.0e-04", "98.5", "–"),
    ]
    assert [row.control for row in table.rows] == [False, False, False, True]


def test_each_variant_is_spelt_out() -> None:
    table = find(make_results(), "what was edited")
    assert table.header == ("variant", "edit", "criterion", "scope", "weights", "of all %")
    sigma = "SigmaThreshold(sigmas=5.0)"
    assert [row.cells for row in table.rows] == [
        ("none", "Zero()", sigma, "matrices", "0", "0"),
        ("sigma5", "Zero()", sigma, "matrices", "1,243", "0.048"),
    ]


def test_a_variant_with_controls_stands_beside_them() -> None:
    table = find(make_results(), "beside as many random weights")
    assert table.header == (
        *("variant", "controls", "their Δnll", "excess [95 %]", "p (vs random)"),
    )
    excess = "+0.0368 [+0.0300, +0.0400]"
    assert [row.cells for row in table.rows] == [
        ("sigma5", "2", "-0.0001 to +0.0007", excess, "–"),
    ]


def test_columns_name_the_confidence() -> None:
    results = make_results()
    run = dataclasses.replace(results.run, confidence=0.999)
    table = find(dataclasses.replace(results, run=run), "effects")
    assert table.header[2] == "Δnll [99.9 %]"
    assert table.legend["Δnll [99.9 %]"].startswith("nll of the variant minus")


def test_a_mean_of_controls_that_lacks_one_is_no_mean() -> None:
    results = make_results()
    first = results.controls["sigma5-control-0"]
    assert first.likelihood is not None
    broken = dataclasses.replace(
        first, likelihood=dataclasses.replace(first.likelihood, perplexity=None)
    )
    controls = results.controls | {"sigma5-control-0": broken}
    changed = dataclasses.replace(results, controls=controls)
    assert find(changed, "effects").rows[-1].cells[1] == "–"


def test_words_and_bytes_are_shown_where_there_are_any() -> None:
    results = make_results()
    assert "per word and byte" not in captions(results)
    original = results.variants["original"]
    assert original.likelihood is not None
    covered = dataclasses.replace(
        original.likelihood, word_perplexity=321.0, byte_perplexity=2.5, bits_per_byte=1.3219
    )
    variants = results.variants | {"original": dataclasses.replace(original, likelihood=covered)}
    table = find(dataclasses.replace(results, variants=variants), "per word and byte")
    assert table.header == ("variant", "word ppl", "byte ppl", "bits/byte")
    assert table.rows[0].cells == ("original", "321", "2.5", "1.322")
    assert table.rows[1].cells == ("none", "–", "–", "–")


# -- texts and activations ---------------------------------------------------------------------


def looked_at(results: Results) -> Results:
    """The results with texts of the original, a variant and its first control, and what flowed."""
    texts = {
        "original": TextRecord(
            *(0.125, 0.5, 0.98765, 0.05, 800, 20, 0),
            **{"ci95": {"seq_rep_4": (0.1, 0.2)}, "nll_under_original": 1.25},
            **{"texts": 20, "mean_tokens": 40.0},
        ),
        "sigma5": TextRecord(None, None, None, None, 0, 20, 20, None, None, {"seq_rep_4": None}),
        "sigma5-control-0": TextRecord(0.13, 0.5, 0.0012, 0.125, 780, 20, 1, 0.874, 4.0),
    }
    flows = {
        "original": ActivationRecord(12345.6, "model.layers.1", 987.65, "model.layers.0", 1234),
        "sigma5": ActivationRecord(None, None, None, None, None),
    }

    def whole(records: Any) -> Any:
        return {
            name: dataclasses.replace(
                record, generation=texts.get(name), activations=flows.get(name)
            )
            for name, record in records.items()
        }

    return dataclasses.replace(
        results,
        variants=whole(results.variants),
        controls=whole(results.controls),
        observed=ObserverRecord(6.0, 6.0, 2.0, 8.5, 1),
    )


def test_texts_of_variants_and_first_controls() -> None:
    results = looked_at(make_results())
    table = find(results, "texts after 20 prompts")
    assert table.header == (
        *("variant", "texts", "tokens", "orig. nll"),
        *("seq-rep-4 [95 %]", "diversity", "loops %", "same %"),
    )
    nothing = ("–",) * 7
    assert [row.cells for row in table.rows] == [
        ("original", "20", "40", "1.25", "0.125 [0.10, 0.20]", "0.9877", "5.0", "–"),
        ("none", *nothing),
        ("sigma5", *nothing),
        ("  control", "–", "–", "–", "0.130", "1.2e-03", "12.5", "87.4"),
    ]
    assert [row.control for row in table.rows] == [False, False, False, True]


def test_activations_and_what_they_are_judged_by() -> None:
    results = looked_at(make_results())
    table = find(results, "activations")
    assert table.header == ("variant", "max |x|", "at", "kurtosis", "massive")
    assert table.rows[0].cells == ("original", "1.235e+04", "model.layers.1", "987.6", "1,234")
    assert table.rows[2].cells == ("sigma5", "–", "–", "–", "–")
    assert "beyond 2 and beyond 8.5 times the median" in table.legend["massive"]
    assert table.legend["max |x|"].endswith("while the text was read")
    predicted = find(dataclasses.replace(results, data=None), "activations")
    assert predicted.legend["max |x|"].endswith("while the prompts were read")


def test_where_nothing_was_looked_at_there_is_no_table() -> None:
    assert captions(make_results()) == [
        *("what was edited", "effects", "beside as many random weights"),
    ]
    assert captions(make_predicted()) == [
        *("what was edited", "texts after 2 prompts", "further metrics of the texts"),
    ]


def test_metrics_of_any_name() -> None:
    results = make_predicted()
    original = results.variants["original"]
    assert original.generation is not None
    odd = dataclasses.replace(original.generation, metrics={"a.b {x}": 0.5})
    variants = {"original": dataclasses.replace(original, generation=odd)}
    made = dataclasses.replace(results, variants=variants, controls={})
    table = find(made, "further metrics of the texts")
    assert table.header == ("variant", "a.b {x}")
    assert table.rows[0].cells == ("original", "0.5")
