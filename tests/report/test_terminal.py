"""Tables on terminals of any width, and the last lines."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from harness.report import show, show_next_steps
from harness.report.sentences import headlines, remarks
from harness.report.tables import tables
from tests.report.made import make_results


def shown(width: int) -> str:
    file = StringIO()
    show(make_results(), Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 300])
def test_everything_is_shown_within_the_width(width: int) -> None:
    text = shown(width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for table in tables(make_results()):
        for cells in (table.header, *(row.cells for row in table.rows)):
            assert all(cell.split()[0] in text for cell in cells), cells
    words = " ".join(text.split())
    assert "llama on a.txt, all: 33,058 tokens in 24 documents" in words
    for sentence in (*headlines(make_results()), *remarks(make_results())):
        assert sentence in words


def test_a_table_that_is_too_wide_goes_on_below_with_the_names() -> None:
    effects = [line.split()[0] for line in shown(60).splitlines() if line.startswith(" sigma5")]
    assert len(effects) > len(tables(make_results()))
    wide = [line for line in shown(300).splitlines() if line.startswith(" sigma5")]
    assert len(wide) == len(tables(make_results()))


def test_what_a_file_is_called_does_not_act_on_the_terminal() -> None:
    file = StringIO()
    results = make_results()
    named = dataclasses.replace(results, warnings=("the weight \x1b[2Ja\u202eb is odd",))
    show(named, Console(file=file, width=80))
    assert "- the weight \\x1b[2Ja\\x202eb is odd" in file.getvalue()


def test_brackets_are_no_markup() -> None:
    assert "[+0.0315, +0.0439]" in shown(80)


@pytest.mark.parametrize("command", ["validate", "test", "predict", "fit"])
def test_the_last_lines_can_be_copied(command: str) -> None:
    file = StringIO()
    folder = Path("my logs/a name that is longer than a narrow terminal/version_0")
    show_next_steps(folder, command, Console(file=file, width=40))
    lines = file.getvalue().strip().splitlines()
    assert f"TensorBoard tensorboard --logdir '{folder}'" in lines
    if command == "fit":
        best = folder / "checkpoints" / "best"
        assert f"measure it  python -m harness validate --model.pretrained '{best}'" in lines
    else:
        assert f"report      '{folder / 'report.md'}'" in lines
        assert lines[-1] == f"compare     tensorboard --logdir '{folder.parent}'"
    assert any("generations.jsonl" in line for line in lines) == (command == "predict")
