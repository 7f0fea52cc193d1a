"""Rows of every format, read one at a time, and which of them are refused."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from harness.data.sources import table_of
from harness.data.tables import Table, choose_column, texts_of
from harness.errors import ConfigError


@pytest.fixture
def made(tmp_path: Path):
    """Makes the table of a file with some content."""

    def make(name: str, content: str | bytes) -> Table:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return table_of(path)

    return make


def texts(table: Table, wanted: str | None = None, default: str = "text") -> list[str]:
    return list(texts_of(table, choose_column([table], wanted, default), []))


def refused(table: Table, wanted: str | None = None) -> str:
    """The reason, with the file in front where it is one of its rows."""
    with pytest.raises(ConfigError) as caught:
        texts(table, wanted)
    error = caught.value
    assert "\n" not in str(error)
    assert error.key in ("data.dataset", "data.text_column")
    if error.key == "data.dataset":
        assert error.value == str(table.path)
    else:
        assert error.value == wanted
    return error.reason


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# -- JSON --------------------------------------------------------------------------------------


def test_side_columns_may_differ(made):
    rows = [{"text": "a", "n": 1}, {"n": "x", "text": "b"}, {"text": "c", "m": {}}, {"n": [1]}]
    assert texts(made("a.jsonl", lines(*rows))) == ["a", "b", "c", ""]


def test_blank_lines_are_no_rows_and_odd_characters_are_text(made):
    odd = ["a\u2028b\x85c", "\x00", "😀", "\ufeffd", "e\r\nf", " "]
    content = "\ufeff" + "\r\n \t\n".join(json.dumps(t, ensure_ascii=False) for t in odd)
    assert texts(made("a.jsonl", content)) == odd
    keyed = [json.dumps({"text": t}, ensure_ascii=False) for t in odd]
    assert texts(made("b.jsonl", "\n".join(keyed))) == odd


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_list_of_texts(made, name):
    content = '"a"\n"b"\n"c"' if name == "a.jsonl" else '[\n"a",\n"b", "c"]'
    assert texts(made(name, content)) == ["a", "b", "c"]
    assert choose_column([made(name, content)], None, "text") is None
    assert "there are no columns" in refused(made(name, content), "text")


@pytest.mark.parametrize(
    "content",
    [
        '[{"text": "a"}, {"text": "b"}]',
        '[\n  {\n    "text": "a"\n  },\n  {"text": "b"}\n]\n',
        '{"text": "a"}\n{"text": "b"}\n',
        '\n\n{"text": "a"}\n\n{"text": "b"}',
    ],
)
def test_json_is_a_list_or_lines(made, content):
    assert texts(made("a.json", content)) == ["a", "b"]
    assert texts(made("b.json", '{\n"text": "a"\n}')) == ["a"]
    for nothing in ("", " \n", "[]"):
        assert texts(made("c.json", nothing)) == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", '{"text": "a"}\n{not json\n', "no JSON: line 2, character 2: Expecting pro"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": "a}\n', "no JSON: line 3, character "),
        ("a.jsonl", '{"text": "a"} {"text": "b"}', "no JSON: line 1, character 15: Extra data"),
        ("a.jsonl", '{"text": "a"}\n[1]\n', "line 2 is a list, neither an object nor a text"),
        ("a.jsonl", "7\n", "line 1 is a number, neither an object nor a text"),
        ("a.jsonl", "[" * 100_000, "no JSON: line 1: nested too deeply"),
        ("a.jsonl", f'{{"text": "a", "n": {"1" * 5000}}}', "no JSON: line 1: Exceeds the limit"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "not UTF-8 (byte 10 of line 2)"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "not UTF-8 (byte 0 of line 1)"),
        ("a.json", '[\n{"text": "a"},\n]', "no JSON: line 3, character 1: "),
        ("a.json", '["a", 1]', "item 2 is a number, neither an object nor a text"),
        ("a.json", '{"text": ["a", "b"]}', "line 1: its text is no text but a list"),
        ("a.jsonl", '"a"\n"\\ud83d"\n', "line 2: half of a pair of surrogates stands alone"),
        ("a.jsonl", '{"text": "\\udc00"}', "line 1: half of a pair of surrogates stands alone"),
    ],
)
def test_json_that_is_refused(made, name, content, told):
    assert refused(made(name, content)).startswith(told)


# -- CSV ---------------------------------------------------------------------------------------


def test_cells_may_hold_anything_in_quotes(made):
    content = '\ufeffid, text ,n\r\n1,"a, ""b""\r\nc",\r\n\r\n2,,x\r\n3,NA,1984\r\n4,"1984",\r\n'
    assert texts(made("a.csv", content)) == ['a, "b"\r\nc', "", "NA", "1984"]
    assert texts(made("a.tsv", 'text\tn\na, b\t1\n"c\td"\t2\n')) == ["a, b", "c\td"]
    long = "x" * 200_000
    assert texts(made("b.csv", f"text\n{long}\n")) == [long]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        # The separator within a text, with and without a name for what is behind it.
        (
            "text\nHello there, dear friend\n",
            "line 2 has 2 cells, the first line names 1 columns; put text that holds",
        ),
        ("id,text\n1,a\n\n2\n", "line 4 has 1 cells, the first line names 2 columns"),
        ('text,n\n"a\nb",1\nc\n', "line 4 has 1 cells, the first line names 2"),
        # No line of names: the first document would be lost.
        (
            "Hello there\nHow are you\n",
            "name the column of the text; there are Hello there (cells)",
        ),
        ("Hello there, friend\nx,y\n", "name the column of the text; there are Hello there (cel"),
        ("page\nx\n", "name the column of the text; there are page (cells)"),
        ("id;text\n1;a\n", "name the column of the text; there are id;text (cells)"),
        ("text,text\na,b\n", "its first line names 'text' twice"),
        ('text\n"a"b\n', "line 2: ',' expected after '\"'"),
        ('text\na\n"b\nc\n', "line 3: unexpected end of data"),
        ("text\n1\n2.5\n", "its column text holds nothing but numbers"),
        (b"text\na\n\xff\n", "not UTF-8 (byte 0 of line 3)"),
    ],
)
def test_csv_that_is_refused(made, content, told):
    assert refused(made("a.csv", content)).startswith(told)


def test_a_csv_names_its_column(made):
    table = made("a.csv", "page,review text\nx,y\n")
    assert texts(table, "page") == ["x"]
    assert texts(table, "review text") == ["y"]
    assert refused(table, "body") == ("no such column; there are page (cells), review text (cells)")


# -- Parquet -----------------------------------------------------------------------------------


def arrow(path: Path, columns: dict[str, Any]) -> Table:
    parquet.write_table(pyarrow.table(columns), path)
    return table_of(path)


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
    ids=str,
)
def test_every_type_of_text(tmp_path, kind):
    values = pyarrow.array(["a", None, "é"], pyarrow.string()).cast(kind)
    assert texts(arrow(tmp_path / "a.parquet", {"text": values})) == ["a", "", "é"]
    assert texts(arrow(tmp_path / "b.parquet", {"page": values, "n": [1, 2, 3]})) == ["a", "", "é"]


def test_text_of_nothing_but_null(tmp_path):
    nulls = pyarrow.array([None, None], pyarrow.string())
    assert texts(arrow(tmp_path / "a.parquet", {"text": nulls})) == ["", ""]


def test_parquet_that_is_no_utf8(tmp_path):
    values = pyarrow.array([b"a", b"b\xff"]).view(pyarrow.string())
    table = arrow(tmp_path / "a.parquet", {"text": values})
    assert refused(table) == "row 2: its text is not UTF-8"


def test_a_damaged_parquet(tmp_path, made):
    assert refused(made("a.parquet", b"PAR")).startswith("cannot be read: Parquet")
    arrow(tmp_path / "b.parquet", {"text": ["some text"] * 9000})
    raw = (tmp_path / "b.parquet").read_bytes()
    damaged = raw[:8] + bytes(40) + raw[48:]
    assert refused(made("c.parquet", damaged)).startswith("cannot be read: ")


# -- the column --------------------------------------------------------------------------------


COLUMNS = {
    "a number": [1984],
    "a list": [["a", "b"]],
    "a mapping": [{"a": "b"}],
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("wanted", [None, "text"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_that_is_there_but_no_text(made, tmp_path, name, wanted, kind):
    columns = {"id": ["row-0"], "text": COLUMNS[kind]}
    if name == "a.parquet":
        table, place = arrow(tmp_path / name, columns), "row 1"
    else:
        table, place = (
            made(name, lines({key: value[0] for key, value in columns.items()})),
            "line 1",
        )
    told = f"{place}: its text is no text but {kind}; mend the row, or name another column"
    assert refused(table, wanted) == told


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("wanted", [None, "text"])
def test_a_column_that_is_always_null(made, tmp_path, name, wanted):
    rows = [{"id": f"row-{n}", "text": None} for n in range(3)]
    table = made(name, lines(*rows))
    if name == "a.parquet":
        table = arrow(tmp_path / name, {"id": ["a"], "text": pyarrow.nulls(1)})
    assert refused(table, wanted) == "its column text holds nothing but nulls"


def test_text_in_one_row_and_a_number_in_another(made):
    rows = [{"id": f"row-{n}", "text": "a"} for n in range(9)] + [{"id": "row-9", "text": 1984}]
    told = "line 10: its text is no text but a number; mend the row, or name another column"
    assert refused(made("a.jsonl", lines(*rows))) == told
    assert refused(made("a.jsonl", lines(*reversed(rows)))) == told.replace("line 10", "line 1")
    assert texts(made("a.jsonl", lines(*rows)), "id") == [f"row-{n}" for n in range(10)]


def test_a_null_among_texts_is_an_empty_row(made):
    rows = [{"text": None}, {"id": 1}, {"text": "a"}, {"text": None}, {"text": "b"}]
    assert texts(made("a.jsonl", lines(*rows))) == ["", "", "a", "", "b"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"id": 1, "page": "x"}, None),
        ({"page": "x", "n": None, "b": True}, None),
        ({"page": "x", "title": "y"}, "there are page (text), title (text)"),
        ({"id": "x", "words": ["a"]}, "there are id (text), words (list)"),
        ({"id": "x", "meta": {}}, "there are id (text), meta (mapping)"),
        ({"id": 1}, "there are id (number)"),
        ({"\x1b[2J": "x", "b ": "y"}, "there are '\\x1b[2J' (text), 'b ' (text)"),
    ],
)
def test_the_only_column_of_text(made, tmp_path, row, told):
    tables = [made("a.jsonl", lines(row)), made("b.jsonl", lines({**row, "n": 1}, row))]
    if row.get("meta") != {}:
        tables.append(arrow(tmp_path / "c.parquet", {key: [row[key]] for key in row}))
    for table in tables:
        if told is None:
            assert set(texts(table)) == {"x"}
        else:
            told_here = told + ", n (number)" * (table.path.name == "b.jsonl")
            assert refused(table) == f"name the column of the text; {told_here}"


def test_columns_of_mixed_kinds_are_none_of_text(made):
    assert refused(made("a.jsonl", lines({"page": "x"}, {"page": 1}))) == (
        "name the column of the text; there are page (number or text)"
    )


def test_thousands_of_columns_are_told_in_one_line(made):
    table = made("a.jsonl", lines(*({f"{'k' * 99}{n}": "x"} for n in range(5000))))
    told = refused(table)
    assert told.endswith(" and 4988 more")
    assert len(told) < 1000


def test_one_column_for_all_files(made):
    one, other = made("a.jsonl", lines({"page": "x"})), made("b.jsonl", lines({"text": "y"}))
    assert choose_column([one, other], None, "text") == "text"
    with pytest.raises(ConfigError, match=r"has no column text; there are page \(text\)$"):
        list(texts_of(one, "text", []))
    third = made("c.jsonl", lines({"page": "z", "n": 1}))
    assert choose_column([one, third], None, "text") == "page"
    with pytest.raises(ConfigError, match=r"there are page \(text\), body \(text\)$"):
        choose_column([one, made("d.jsonl", lines({"body": "z"}))], None, "text")


def test_a_column_that_appears_late(made):
    assert texts(made("a.jsonl", lines({"id": "1"}, {"id": "2", "text": "a"}))) == ["", "a"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "saved"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    text, count = "x" * 1000, 20_000
    path = tmp_path / name
    if name == "saved":
        datasets.Dataset.from_dict({"text": [text] * count}).save_to_disk(path)
    elif name == "a.parquet":
        rows = {"text": [f"{n}{text}" for n in range(count)]}
        parquet.write_table(pyarrow.table(rows), path, row_group_size=1000)
    else:
        row = lines({"text": text}) if name == "a.jsonl" else f"{text}\n"
        path.write_text(("text\n" if name == "a.csv" else "") + row * count)
    table = table_of(path)
    next(texts_of(table, "text", []))  # what is imported does not count
    tracemalloc.start()
    assert sum(len(text) >= 1000 for text in texts_of(table, "text", [])) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6  # of 20 MB
