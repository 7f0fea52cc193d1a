"""report.md, line by line."""

from __future__ import annotations

import dataclasses

from harness.report import markdown
from harness.report.sentences import headlines
from harness.results.schema import NoiseFloor, Rounding
from tests.report.made import make_predicted, make_results


def test_the_report_says_what_was_measured() -> None:
    lines = markdown(make_results()).splitlines()
    assert lines[:4] == ["# mine, version 3", "", f"- {headlines(make_results())[0]}", ""]
    assert lines[4] == (
        "`validate` of **llama on a.txt** (LlamaForCausalLM, 2,600,000 parameters, float32): "
        "split all, 33,058 scored tokens in 120 windows of 24 documents (max_length 256, "
        "stride 128, join document, bos start). 12 seconds."
    )
    table = [line for line in lines if line.startswith("|")]
    assert table[4:7] == [
        "| variant | ppl | Δnll [95 %] | KL | top-1 % | p (texts) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| original | 97.19 | – | – | – | – |",
    ]
    assert table[9].startswith("| 2 controls | 97.5 |")
    assert "- none: selects nothing, so this variant is the original." in lines
    again = "- Repeatability, the original scored again on the first eight batches: Δnll 0, KL –."
    assert again in lines
    floor = NoiseFloor(0.0, None, Rounding(1_024, 1e-9, 4e-12, 0.9995))
    lines = markdown(dataclasses.replace(make_results(), noise_floor=floor)).splitlines()
    assert lines[lines.index(again) + 1] == (
        "- Rounding, 1,024 weights moved to the next number of their type, on the same batches: "
        "Δnll 1.0e-09, KL 4.0e-12, top-1 100.0 %."
    )


def test_the_report_says_how_it_was_made() -> None:
    results = make_results()
    assert "config.yaml" not in markdown(results)
    run = dataclasses.replace(
        results.run,
        arguments="python -m harness validate --model.variants.a.controls '19'",
        started="2026-11-28T05:00:00+00:00",
        versions={"harness": "0.1.0", "torch": "2.13.0"},
    )
    lines = markdown(dataclasses.replace(results, run=run)).splitlines()
    assert "`python -m harness validate --model.variants.a.controls '19'`  " in lines
    assert (
        "on 2026-11-28T05:00:00+00:00, with harness 0.1.0, torch 2.13.0; `config.yaml` beside this "
        "file replays it." in lines
    )


def test_the_report_of_texts_alone() -> None:
    lines = markdown(make_predicted()).splitlines()
    assert lines[2] == ""  # nothing was scored, and so there is no headline
    assert (
        "`predict` of **llama** (LlamaForCausalLM, 2,600,000 parameters, float32). 12 seconds."
        in lines
    )
    table = [line for line in lines if line.startswith("|")]
    assert table[3:] == [
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
    assert not any("Repeatability" in line for line in lines)


def test_the_legend_is_that_of_the_columns() -> None:
    text = markdown(make_results()).partition("## How to read it")[2]
    names = [line.split("**")[1] for line in text.splitlines() if line.startswith("- **")]
    assert names == [
        *("edit", "criterion", "scope", "weights", "of all %"),
        *("ppl", "Δnll [95 %]", "KL", "top-1 %", "p (texts)"),
        *("controls", "their Δnll", "excess [95 %]", "p (vs random)"),
    ]
    assert "ppl" not in markdown(make_predicted())


def test_a_part_of_the_split_is_marked() -> None:
    results = make_results()
    mark = " seconds. **Partial**: not all of it was measured."
    assert mark not in markdown(results)
    run = dataclasses.replace(results.run, partial=True)
    assert mark in markdown(dataclasses.replace(results, run=run))


def test_pipes_and_stars_do_not_make_columns_or_emphasis() -> None:
    results = make_results()
    edit = results.variants["sigma5"].edit
    assert edit is not None
    odd = dataclasses.replace(
        results.variants["sigma5"], edit=dataclasses.replace(edit, scope="*.mlp.*|head")
    )
    made = dataclasses.replace(results, variants={"sigma5": odd})
    assert "| \\*.mlp.\\*\\|head |" in markdown(made)


def test_columns_of_words_stand_on_the_left_and_the_column_that_was_read_is_named() -> None:
    results = make_results()
    assert "| --- | --- | --- | --- | ---: | ---: |" in markdown(results)  # what was edited
    assert "split all, 33,058" in markdown(results)
    data = dataclasses.replace(results.data, text_column="body")
    text = markdown(dataclasses.replace(results, data=data))
    assert "split all, column body, 33,058 scored tokens" in text
