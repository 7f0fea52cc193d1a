"""The table on terminals of any width."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from harness.report import show
from harness.report.tables import header, rows, sentences
from tests.report.made import make_results


def shown(width: int) -> str:
    file = StringIO()
    show(make_results(), Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 60, 80, 300])
def test_nothing_is_cut_off(width: int) -> None:
    text = shown(width)
    assert "…" not in text
    lines = text.splitlines()
    for cells in (header(make_results()), *(row.cells for row in rows(make_results()))):
        # A whole row stands on one line, its cells in their order.
        assert any(line.split() == " ".join(cells).split() for line in lines), cells
    words = " ".join(text.split())
    assert "llama on a.txt, all: 33,058 tokens in 24 documents" in words
    assert all(sentence in words for sentence in sentences(make_results()))


def test_sentences_wrap_where_the_terminal_ends() -> None:
    after = shown(40).partition("sigma5: editing")
    assert max(map(len, (after[1] + after[2]).splitlines())) <= 40
    assert any(line == sentences(make_results())[0] for line in shown(300).splitlines())


def test_brackets_are_no_markup() -> None:
    assert "[+0.0315, +0.0439]" in shown(80)
