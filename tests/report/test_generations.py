"""Texts side by side: on terminals of any width, as JSON and as HTML that TensorBoard shows."""

from __future__ import annotations

import html
import json
import re
import warnings
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.report.generations import MARK, html_table, save_generations, show_side_by_side

LONG = "the cat sat on the mat and " * 6
ODD = "a\tb\x1b[31mred\x07 \u202eback\u202c \u200bzero\rstart\x85"


def row(
    number: int = 0,
    variant: str = "original",
    text: str = "",
    at: int | None = None,
    *,
    prompt: str | None = None,
    broken: bool = False,
    token: int | None = None,
) -> dict[str, Any]:
    return {
        "prompt_number": number,
        "prompt": f"Prompt {number}" if prompt is None else prompt,
        "variant": variant,
        "text": text,
        "tokens": [ord(letter) for letter in text],
        "broken": broken,
        "diverges_at": at if token is None else token,
        "diverges_at_character": at,
    }


def made() -> list[dict[str, Any]]:
    return [
        row(0, text="both say this"),
        row(0, "zeroed", "both say this"),
        row(0, "sigma5", "both say this"),
        row(1, text=f"{LONG}one end"),
        row(1, "zeroed", f"{LONG}other end", len(LONG) + 1),
        row(1, "sigma5", f"{LONG}one end"),
        row(2, text="whole"),
        row(2, "zeroed", broken=True, at=0),
        row(2, "sigma5", "wholly", 4),
    ]


def shown(rows: list[dict[str, Any]], width: int, most: int = 2) -> str:
    file = StringIO()
    show_side_by_side(rows, Console(file=file, width=width), most)
    return file.getvalue()


def columns(text: str) -> list[str]:
    """What stands in each column of the one table that was shown, its lines joined."""
    lines = [line for line in text.splitlines() if "want of room" not in line]
    rule = next(k for k, line in enumerate(lines) if "──" in line)
    head = lines[rule - 1]
    starts = [match.start() for match in re.finditer(r"\S+", head)]
    body = lines[rule + 1 :]
    ends = [*starts[1:], None]
    cells = [[line[a:b].rstrip() for line in body] for a, b in zip(starts, ends, strict=True)]
    return ["".join(re.sub(r"\s", "", part) for part in cell) for cell in cells]


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


# -- the file ----------------------------------------------------------------------------------


def test_the_file_holds_a_line_for_each_text(tmp_path: Path) -> None:
    rows = [*made(), row(3, text=f"{ODD}\n\u2028\u2029 Füße 😀 “”"), row(3, "zeroed", "\n\n", 0)]
    path = tmp_path / "generations.jsonl"
    save_generations(path, iter(rows))
    raw = path.read_bytes()
    lines = raw.decode("utf-8").rstrip("\n").split("\n")
    assert [json.loads(line) for line in lines] == rows
    assert "Füße 😀" in raw.decode("utf-8")
    assert raw.endswith(b"\n")


def test_nothing_written_is_an_empty_file(tmp_path: Path) -> None:
    save_generations(tmp_path / "a.jsonl", [])
    assert (tmp_path / "a.jsonl").read_bytes() == b""


# -- the terminal ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 140])
def test_nothing_is_cut_off(width: int) -> None:
    text = shown(made()[3:6], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "“Prompt 1”" in text
    cells = columns(text)
    assert len(cells) == min(3, width // 24)
    assert cells[0] == squeezed(f"{LONG}one end")
    assert cells[1] == squeezed(f"{LONG}o{MARK}ther end")
    assert cells[2:] == ["(theoriginal'stext)"][: len(cells) - 2]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_words_and_prompts_that_are_longer_than_the_line(width: int) -> None:
    word, prompt = "x" * 200 + "yz", "Why " * 100 + "q" * 300
    rows = [row(text=word, prompt=prompt), row(0, "zeroed", "日本語" * 60, 0, prompt=prompt)]
    text = shown(rows, width)
    assert all(Console(width=width).measure(line).maximum <= width for line in text.splitlines())
    assert squeezed(f"“{prompt}”") in squeezed(text)
    assert text.count("x") == 200
    assert text.count("日") == text.count("本") == text.count("語") == 60
    assert "…" not in text


@pytest.mark.parametrize("width", [20, 60, 80, 140])
def test_as_many_variants_as_find_room(width: int) -> None:
    rows = [row(text="a"), *(row(0, f"variant{k}", "b", 0) for k in range(8))]
    head = next(line for line in shown(rows, width).splitlines() if "original" in line)
    names = ["original", *(f"variant{k}" for k in range(8))]
    if width >= 60:
        assert head.split() == names[: max(2, width // 24)]
    text = squeezed(shown(rows, width))
    assert "variant0" in text
    rest = names[max(2, width // 24) :]
    assert squeezed(f"{', '.join(rest)}: in generations.jsonl, for want of room here") in text


def test_what_wrote_stands_before_what_wrote_nothing() -> None:
    names = ["nan", "zeroed", "inf", "same"]
    texts = [row(0, "nan", broken=True), row(0, "zeroed", "b", 0), row(0, "inf", broken=True)]
    text = shown([row(text="a"), *texts, row(0, "same", "a")], 24 * 3)
    head = next(line for line in text.splitlines() if "original" in line)
    assert head.split() == ["original", "zeroed", "nan"]
    assert "inf, same: in generations.jsonl" in text
    assert all(name in text for name in names)


def test_no_variant_is_said_to_be_left_out_that_is_not() -> None:
    assert "want of room" not in shown(made(), 80)
    assert "want of room" not in shown([], 80)


def test_the_mark_stands_where_the_text_departs() -> None:
    for at, marked in ((0, f"{MARK}abc"), (2, f"ab{MARK}c"), (3, f"abc{MARK}")):
        rows = [row(text="xyz"), row(0, "zeroed", "abc", at)]
        assert columns(shown(rows, 80)) == ["xyz", marked]


def test_the_same_text_is_not_repeated() -> None:
    text = shown(made()[:3], 80)
    assert text.count("both say this") == 1
    assert text.count("(the original's text)") == 2
    assert MARK not in text


def test_what_could_not_be_written_is_said() -> None:
    text = shown(made()[6:], 140)
    assert columns(text) == ["whole", f"whol{MARK}ly", "(nothing:itslogitsarenotfinite)"]
    # Of an original that wrote nothing, an empty text is not the same.
    rows = [row(broken=True), row(0, "zeroed"), row(0, "sigma5", broken=True)]
    cells = columns(shown(rows, 140))
    assert cells == ["(nothing:itslogitsarenotfinite)", "", "(nothing:itslogitsarenotfinite)"]


def test_prompts_that_tell_something_come_first() -> None:
    text = shown(made(), 80)
    assert [n for n in range(3) if f"Prompt {n}" in text] == [1, 2]
    assert text.index("Prompt 1") < text.index("Prompt 2")
    assert "Prompt 0" in shown(made(), 80, most=3)
    # A text that could not be written tells something, even if the original's is empty.
    rows = [*made()[:3], row(1), row(1, "zeroed", broken=True)]
    assert "Prompt 1" in shown(rows, 80, most=1)
    assert shown([], 80) == ""


def test_characters_that_act_on_a_terminal_are_spelt_out() -> None:
    rows = [row(text=ODD, prompt=ODD), row(0, "zeroed", ODD + "!", len(ODD), prompt=ODD)]
    text = shown(rows, 140)
    for spelt in ("\\x1b[31mred", "\\x07", "\\x202e", "\\x202c", "\\x200b", "\\x0d", "\\x85"):
        assert text.count(spelt) == 3, spelt
    for character in set(ODD) - set("ab[31mred back zerostart"):
        assert character not in text


def test_brackets_are_no_markup_and_lines_stay_lines() -> None:
    rows = [row(text="[red]\n  x = [1]", prompt="[bold]p"), row(0, "zeroed", "[/red]", 0)]
    lines = shown(rows, 80).splitlines()
    assert lines[0].strip() == "“[bold]p”"
    assert any(line.startswith(" [red]") and f"{MARK}[/red]" in line for line in lines)
    assert any(line.startswith("   x = [1]") for line in lines)


# -- HTML --------------------------------------------------------------------------------------


class Cells(HTMLParser):
    """Cells of a table as a browser shows them, and the tags that there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert not attrs
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "br":
            self.rows[-1][-1] += "\n"

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def browser(text: str) -> str:
    """White space as a browser shows it: runs of plain spaces are one, none begins a line."""
    lines = [re.sub(" +", " ", line).lstrip(" ") for line in text.split("\n")]
    return "\n".join(lines).replace("\xa0", " ")


def sanitized(text: str) -> str:
    """What TensorBoard makes of a text before it shows it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a library within TensorBoard
        from tensorboard.plugin_util import markdown_to_safe_html
    return str(markdown_to_safe_html(text))


NASTY = '<script>alert("x")</script> & </td> <b>*bold*</b> _under_ `code` [a](b)\n# no head\n- item'


def test_html_is_a_table_that_tensorboard_leaves_as_it_is() -> None:
    rows = [row(text=NASTY, prompt=NASTY), row(0, "zeroed", f"{NASTY}!", len(NASTY), prompt=NASTY)]
    rows += made()[3:]
    text = html_table(rows)
    for seen in (text, sanitized(text)):
        found = Cells(seen)
        assert found.tags == {"table", "thead", "tbody", "tr", "th", "td", "strong", "br"}
        assert found.rows[0] == ["prompt", "original", "zeroed", "sigma5"]
        assert [browser(cell) for cell in found.rows[1]] == [NASTY, NASTY, f"{NASTY}{MARK}!"]
        assert found.rows[2][1:] == [f"{LONG}one end", f"{LONG}o{MARK}ther end", SAME]
        assert found.rows[3][2] == "(nothing: its logits are not finite)"
    assert f"<strong>{MARK}!</strong>" in text


SAME = "(the original's text)"


@pytest.mark.parametrize(
    "text",
    [
        "    four",
        "   three",
        " one",
        "a  two   three    four",
        "def f():\n    if x:\n     return 1\n\n\n    # end",
        "\n\nlines before",
        " \n ",
    ],
)
def test_lines_and_indentation_are_kept(text: str) -> None:
    table = html_table([row(text=text)])
    assert "\n" not in table
    for seen in (table, sanitized(table)):
        assert browser(Cells(seen).rows[1][1]) == text


def test_html_has_so_many_prompts_those_that_tell_something_first() -> None:
    rows = [cell for number in range(30) for cell in (row(number), row(number, "b", "x", None))]
    rows[-1] = row(29, "b", "y", 0)
    found = Cells(html_table(rows, most=4)).rows
    assert [cells[0] for cells in found] == [
        "prompt",
        "Prompt 29",
        *(f"Prompt {k}" for k in range(3)),
    ]
    assert Cells(html_table([])).rows == [["prompt"]]


def test_html_spells_out_what_would_reorder_a_line() -> None:
    text = html.unescape(html_table([row(text=ODD)]))
    assert "\\x202eback\\x202c" in text
    assert not set(text) & set("\x1b\x07\u202e\u202c\u200b\r\x85\t")
