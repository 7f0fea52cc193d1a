"""Reading every format, and the one line that each failure is told in."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from datasets.exceptions import DatasetNotFoundError

from harness.data.sources import TextSource
from harness.errors import ConfigError

TEXTS = ["one, two", "", "NA", 'a "quoted"\nline', "é"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(dataset: Any, split: str = "validation", **keys: Any) -> tuple[list[tuple[str, str]], str]:
    reading = TextSource(dataset, **keys).read(split)
    return list(reading.rows), reading.split


def refused(dataset: Any, split: str = "validation", **keys: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(dataset, split, **keys)
    assert "\n" not in str(caught.value)
    return caught.value


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    if kind == "csv":
        quoted = [
            ",".join('"' + str(value).replace('"', '""') + '"' for value in row.values())
            for row in rows
        ]
        text = "\n".join([",".join(columns), *quoted]) + "\n"
    elif kind == "json":
        text = json.dumps(rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz", "a.csv.gz"]
)
def test_a_row_is_a_document(folder, name):
    write(folder / name, {"text": TEXTS, "title": ["t"] * 5})
    assert read(name) == ([(str(i), text) for i, text in enumerate(TEXTS)], "all")


def test_a_text_file_is_a_document(folder):
    (folder / "a.txt").write_bytes(b"one\r\n\r\ntwo\n")
    assert read("a.txt") == ([("a.txt", "one\r\n\r\ntwo\n")], "all")


def test_several_files_count_their_rows_on(folder):
    write(folder / "a.jsonl", {"text": ["1", "2"]})
    write(folder / "b.jsonl", {"text": ["3"]})
    write(folder / "c.csv", {"text": ["x4"]})
    (folder / "d.txt").write_text("5")
    rows, _ = read(["b.jsonl", "a.jsonl", "d.txt", "c.csv"])
    assert rows == [("0", "3"), ("1", "1"), ("2", "2"), ("d.txt", "5"), ("3", "x4")]


def test_the_only_column_of_strings_is_the_text(folder):
    write(folder / "a.jsonl", {"id": [1, 2], "page": ["x", "y"]})
    assert read("a.jsonl")[0] == [("0", "x"), ("1", "y")]
    large = pyarrow.table({"page": pyarrow.array(["x"], pyarrow.large_string()), "n": [1]})
    pyarrow.parquet.write_table(large, folder / "a.parquet")
    assert read("a.parquet")[0] == [("0", "x")]


def test_a_column_can_be_chosen(folder):
    write(folder / "a.csv", {"text": ["x"], "page": ["y"]})
    assert read("a.csv")[0] == [("0", "x")]
    assert read("a.csv", text_column="page")[0] == [("0", "y")]


def test_a_text_file_has_no_columns(folder):
    (folder / "a.txt").write_text("x")
    assert "a file of text is one text, without columns" in str(
        refused("a.txt", text_column="text")
    )
    write(folder / "b.jsonl", {"body": ["y"], "more": ["z"]})
    assert [text for _, text in read(["a.txt", "b.jsonl"], text_column="body")[0]] == ["x", "y"]


def test_the_column_that_was_read_is_told(folder):
    (folder / "a.txt").write_text("x")
    write(folder / "b.jsonl", {"id": [1], "page": ["y"]})
    for dataset, column in (("b.jsonl", "page"), (["a.txt", "b.jsonl"], "page"), ("a.txt", None)):
        assert TextSource(dataset).read("test").column == column
    assert TextSource("demo").read("test").column is None


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_null_is_an_empty_text(folder, name):
    write(folder / name, {"text": ["x", None, "y"]})
    assert read(name)[0] == [("0", "x"), ("1", ""), ("2", "y")]


def test_rows_are_not_read_further_than_needed(folder):
    write(folder / "a.jsonl", {"text": ["x"]})
    (folder / "b.txt").write_bytes(b"\xff")
    rows = TextSource(["a.jsonl", "b.txt"]).read("test").rows
    assert next(rows) == ("0", "x")
    with pytest.raises(ConfigError, match="not UTF-8"):
        next(rows)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz"])
def test_an_empty_file_has_no_rows(folder, name):
    (folder / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    (folder / "b.txt").write_text("x")
    assert read([name, "b.txt"])[0] == [("b.txt", "x")]


def test_a_file_that_was_rewritten_is_read_anew(folder):
    path = folder / "a.jsonl"
    for text in ("one", "two"):
        write(path, {"text": [text]})
        os.utime(path, (1e9, 1e9))
        assert read("a.jsonl")[0] == [("0", text)]


@pytest.mark.parametrize(
    ("name", "beside"), [("wiki [en].jsonl", None), ("part[1].csv", "part1.csv")]
)
def test_a_path_is_no_pattern(folder, name, beside):
    if beside:
        write(folder / beside, {"text": ["the wrong one"]})
    write(folder / name, {"text": ["the right one"]})
    assert read(name)[0] == [("0", "the right one")]


@pytest.mark.parametrize("name", ["saved", "saved [1] %20"])
def test_what_save_to_disk_wrote(folder, name):
    rows = datasets.Dataset.from_dict({"page": ["x", "y", "z"], "n": [1, 2, 3]})
    rows.save_to_disk(name)
    assert read(name) == ([("0", "x"), ("1", "y"), ("2", "z")], "all")
    assert read([name, name])[0][3:] == [("3", "x"), ("4", "y"), ("5", "z")]
    splits = {"train": rows, "validation": rows.select([2])}
    datasets.DatasetDict(splits).save_to_disk(f"{name} in splits")
    assert read(f"{name} in splits") == ([("0", "z")], "validation")
    error = refused(f"{name} in splits", "test")
    assert error.key == "data.splits"
    assert error.reason.endswith("has the splits train, validation")


@pytest.mark.parametrize("damage", ["state.json", "data-00000-of-00001.arrow"])
def test_what_save_to_disk_wrote_and_time_damaged(folder, damage):
    datasets.Dataset.from_dict({"text": ["x"]}).save_to_disk("saved")
    (folder / "saved" / damage).write_text("{")
    assert str(refused("saved")).startswith("data.dataset='saved': cannot be read: ")


def test_hub_keys_are_refused_for_files(folder):
    (folder / "a.txt").write_text("x")
    assert refused("a.txt", revision="main").key == "data.revision"
    assert refused("a.txt", name="en").key == "data.name"


def test_a_clone_of_a_hub_data_set_by_configuration(folder):
    (folder / "clone/en").mkdir(parents=True)
    write(folder / "clone/en/test.jsonl", {"text": ["x"]})
    (folder / "clone/README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n"
        "  - split: test\n    path: en/test.jsonl\n---\n"
    )
    assert read("clone", "test", name="en") == ([("0", "x")], "test")
    error = refused("clone", "test", name="fr")
    assert str(error).startswith("data.name='fr': BuilderConfig 'fr' not found. Available: ['en']")
    error = refused("clone", "dev", name="en")
    assert str(error) == "data.splits='dev': there are ['test']."


def test_a_hub_that_cannot_be_reached(folder):
    error = refused("somebody/something")
    assert str(error).startswith("data.dataset='somebody/something': the hub cannot be reached")


@pytest.mark.parametrize(
    ("raised", "key", "told"),
    [
        (
            DatasetNotFoundError(
                "Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated."
            ),
            "data.dataset",
            "hf auth login",
        ),
        (
            DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
            "data.dataset",
            "no such data set on the hub",
        ),
        (
            DatasetNotFoundError("Revision 'v9' doesn't exist for dataset 'a/b' on the Hub."),
            "data.revision",
            "no such branch",
        ),
        (
            ValueError("Config name is missing.\nPlease pick one among: ['x', 'y']"),
            "data.name",
            "['x', 'y']",
        ),
        (RuntimeError("Dataset scripts are no longer supported"), "data.dataset", "scripts"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(folder, monkeypatch, raised, key, told):
    def fail(*args: Any, **keys: Any) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", fail)
    error = refused("a/b", revision="v9")
    assert error.key == key
    assert told in str(error)


def test_the_hub_is_asked_for_what_is_configured(monkeypatch):
    asked = []

    def load(*args: Any, **keys: Any) -> datasets.Dataset:
        asked.append((args, keys))
        return datasets.Dataset.from_dict({"page": ["x", "y"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read("a/b", "test", name="en", revision="v1") == ([("0", "x"), ("1", "y")], "test")
    assert asked == [(("a/b", "en"), {"split": "test", "revision": "v1"})]
    rows = datasets.Dataset.from_dict({"text": [["x"]], "id": ["row-0"]})
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **keys: rows)
    assert refused("a/b").reason == (
        "row 1: its text is no text but a list; mend the row, or name another column"
    )


def test_the_embedded_corpus():
    rows, split = read("demo", "test")
    assert split == "test"
    assert len(rows) > 10
    assert all(name and text for name, text in rows)
    error = refused("demo", "dev")
    assert str(error) == ("data.splits='dev': the embedded corpus has test, train, validation")


@pytest.mark.parametrize("other", ["1984", '["a"]', '{"a": 1}'])
def test_a_column_that_is_text_in_some_rows_is_not_passed_over(folder, other):
    rows = f'{{"id": "row-0", "body": "Hello"}}\n{{"id": "row-9", "body": {other}}}\n'
    (folder / "mixed.jsonl").write_text(rows)
    with pytest.raises(ConfigError, match=r"name the column of the text; there are id .*, body"):
        TextSource(str(folder / "mixed.jsonl")).read("all")


def test_rows_without_a_text_are_counted(folder):
    lines = ['{"text": "one"}', '{"txt": "a slip"}', '{"text": null}', '{"text": ""}']
    (folder / "slips.jsonl").write_text("\n".join(lines))
    reading = TextSource(str(folder / "slips.jsonl")).read("all")
    assert [text for _, text in reading.rows] == ["one", "", "", ""]
    told = "2 rows of slips.jsonl without text, line 2 the first, count as empty"
    assert list(reading.notes) == [told]
