"""report.md, line by line."""

from __future__ import annotations

import dataclasses

from harness.report import markdown
from harness.results import Activations, Observed
from tests.report.made import make_predicted, make_results


def test_the_report_says_what_was_measured() -> None:
    lines = markdown(make_results()).splitlines()
    assert lines[0] == "# mine, version 3"
    assert lines[2] == (
        "`validate` of **llama on a.txt** (LlamaForCausalLM, 2,600,000 parameters, float32): "
        "split all, 33,058 scored tokens in 120 windows of 24 documents (max_length 256, "
        "stride 128, join document, bos start). 12 seconds."
    )
    table = [line for line in lines if line.startswith("|")]
    assert table[:3] == [
        "| variant | entries | ppl | Δnll [95 % interval] | KL | top-1 % | p |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| original | – | 97.19 | – | – | – | – |",
    ]
    assert len(table) == 6
    assert table[-1].startswith("| 2 controls | 1,243 | 97.5 |")
    assert "- none: selects nothing, so this variant is the original." in lines
    noise = "- Noise floor, the original scored again on the first eight batches: Δnll 0, KL –."
    assert noise in lines


def test_the_report_of_texts_alone() -> None:
    lines = markdown(make_predicted()).splitlines()
    assert lines[2] == (
        "`predict` of **llama** (LlamaForCausalLM, 2,600,000 parameters, float32). 12 seconds."
    )
    table = [line for line in lines if line.startswith("|")]
    assert table == [
        "| variant | seq-rep-4 [95 %] | diversity | loops % | same % |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| original | 0.250 [0.20, 0.30] | 0.5 | 10.0 | – |",
        "| sigma5 | 0.500 [0.40, 0.60] | 0.25 | 20.0 | 75.0 |",
        "| control | 0.250 [0.20, 0.30] | 0.5 | 10.0 | 100.0 |",
        "| variant | words |",
        "| --- | ---: |",
        "| original | 12 |",
        "| sigma5 | 11 |",
        "| control | – |",
    ]
    assert not any("Noise floor" in line for line in lines)


def test_the_legend_is_that_of_the_columns_and_of_the_thresholds() -> None:
    results = make_results()
    assert "seq-rep-4" not in markdown(results)
    assert "kurtosis" not in markdown(results)
    assert "ppl" not in markdown(make_predicted())
    observed = Observed(6.0, 6.0, 2.0, 8.5, 1)
    flow = Activations(1.0, "a", 3.0, "a", 0)
    for made, read in ((results, "text was"), (make_predicted(), "prompts were")):
        original = dataclasses.replace(made.variants["original"], activations=flow)
        variants = made.variants | {"original": original}
        text = markdown(dataclasses.replace(made, observed=observed, variants=variants))
        assert f"the largest of any observed module while the {read} read" in text
        assert "beyond 2 and beyond 8.5 times the median of their text." in text


def test_a_part_of_the_split_is_marked() -> None:
    results = make_results()
    mark = " seconds. **Partial**: only a part of the split was scored."
    assert mark not in markdown(results)
    run = dataclasses.replace(results.run, partial=True)
    assert mark in markdown(dataclasses.replace(results, run=run))


def test_pipes_do_not_make_columns() -> None:
    results = make_results()
    variants = {"a|b": results.variants["original"]}
    assert "| a\\|b | – | 97.19 |" in markdown(dataclasses.replace(results, variants=variants))
