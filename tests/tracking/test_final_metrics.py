"""Figures of whole runs, as TensorBoard shows them."""

from __future__ import annotations

import dataclasses
import math

from harness.results.schema import ActivationRecord, TextRecord
from harness.tracking.tags import final_metrics, hyperparameters
from tests.report.made import make_results

TEXT = TextRecord(0.1, 0.2, 0.3, 0.4, 500, 20, 1)
FLOW = ActivationRecord(10.0, "model.layers.1", 20.0, "model.layers.0", 30)


def test_figures_of_a_whole_run() -> None:
    results = make_results()
    variant = results.variants["sigma5"]
    text = dataclasses.replace(TEXT, identical_to_original=0.55, nll_under_original=1.25)
    whole = dataclasses.replace(variant, generation=text, activations=FLOW)
    assert final_metrics(whole) == {
        "final/nll": 1.0,
        "final/perplexity": 100.9,
        "final/delta_nll": 0.0371,
        "final/kl_mean": 0.03248,
        "final/top1_agreement": 0.867,
        "final/seq_rep_4": 0.1,
        "final/distinct_2": 0.2,
        "final/diversity": 0.3,
        "final/loop_rate": 0.4,
        "final/identical_to_original": 0.55,
        "final/nll_under_original": 1.25,
        "final/max_abs": 10.0,
        "final/max_kurtosis": 20.0,
        "final/massive_count": 30.0,
    }


def test_the_original_is_what_it_is_to_itself() -> None:
    original = dataclasses.replace(make_results().variants["original"], generation=TEXT)
    found = final_metrics(original)
    assert (found["final/delta_nll"], found["final/kl_mean"]) == (0.0, 0.0)
    assert found["final/top1_agreement"] == found["final/identical_to_original"] == 1.0


def test_what_is_missing_is_nan_under_the_same_tags() -> None:
    results = make_results()
    records = [*results.variants.values(), *results.controls.values()]
    broken = dataclasses.replace(
        results.variants["sigma5"],
        generation=TextRecord(None, None, None, None, 0, 20, 20),
        activations=ActivationRecord(None, None, None, None, 0),
    )
    found = [final_metrics(record) for record in (*records, broken)]
    assert all(list(tags) == list(found[0]) for tags in found)
    assert all(type(value) is float for tags in found for value in tags.values())
    missing = {tag for tag, value in found[0].items() if math.isnan(value)}
    texts = {"seq_rep_4", "distinct_2", "diversity", "loop_rate", "identical_to_original"}
    texts |= {"nll_under_original"}
    flows = {"max_abs", "max_kurtosis", "massive_count"}
    assert missing == {f"final/{name}" for name in texts | flows}
    missing = {tag for tag, value in found[-1].items() if math.isnan(value)}
    assert missing == {f"final/{name}" for name in (texts | flows) - {"massive_count"}}


def test_what_tells_a_row_from_the_others() -> None:
    results = make_results()
    rows = [hyperparameters(name, r, results) for name, r in results.variants.items()]
    assert len({tuple(row) for row in rows}) == 1
    original, _, sigma5 = rows
    assert (original["variant"], original["criterion"], original["edit"]) == (
        "original",
        "none",
        "none",
    )
    assert original["entries"] == 0
    assert (sigma5["variant"], sigma5["criterion"], sigma5["entries"]) == (
        "sigma5",
        "SigmaThreshold(sigmas=5.0)",
        1_243,
    )
    # A saved patch need not say what made it.
    variant = results.variants["sigma5"]
    assert variant.edit is not None
    untold = dataclasses.replace(
        variant, edit=dataclasses.replace(variant.edit, criterion=None, edit=None)
    )
    row = hyperparameters("saved", untold, results)
    assert (row["criterion"], row["edit"]) == ("unknown", "unknown")
