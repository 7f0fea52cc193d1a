"""Which files a path means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.data.files import absolute_paths, file_format, find_files, is_local
from harness.data.splits import Found
from harness.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def found(*arguments: str) -> tuple[list[str], str]:
    files = find_files(*arguments)
    return [path.relative_to("x").as_posix() for path in files.files], files.split


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "txt"),
        ("a.md", "txt"),
        ("wiki.test.raw", "txt"),
        ("b.JSONL", "jsonl"),
        ("b.ndjson", "jsonl"),
        ("c.json.xz", "json"),
        ("d.csv.gz", "csv"),
        ("d.TSV.ZST", "tsv"),
        ("e.parquet", "parquet"),
    ],
)
def test_a_file_is_read_whole_whatever_it_is_called(folder, name, kind):
    touch(folder / f"train-{name}")
    assert file_format(Path(name)) == kind
    assert find_files(f"train-{name}", "test") == Found([Path(f"train-{name}")], "all", [])


def test_lists_keep_their_order_and_patterns_are_sorted(folder):
    touch(folder / "b.txt", folder / "a.txt", folder / "c.csv")
    found = find_files(["c.csv", "*.txt"], "test")
    assert [path.name for path in found.files] == ["c.csv", "a.txt", "b.txt"]
    assert found.split == "all"


@pytest.mark.parametrize(
    "name", ["wiki [en].jsonl", "part[1].jsonl", "a*b.txt", "~a.md", "what?.csv", "[x"]
)
def test_a_path_that_exists_is_that_file(folder, name):
    beside = [folder / "part1.jsonl", folder / "a1b.txt", folder / "whats.csv"]
    touch(*beside, folder / name / "a.txt" if name == "[x" else folder / name)
    expected = Path(name) / "a.txt" if name == "[x" else Path(name)
    for dataset in (name, [name], str(folder / name)):
        (path,) = find_files(dataset, "test").files
        assert path.samefile(expected)
    assert is_local(name)
    assert absolute_paths(name) == str(folder / name)


def test_a_pattern_is_one_where_no_such_path_is(folder, monkeypatch):
    (folder / "here [1]").mkdir()
    monkeypatch.chdir(folder / "here [1]")
    touch(Path("part1.jsonl"), Path("part2.jsonl"))
    assert find_files("part[12].jsonl", "test").files == [
        Path("part1.jsonl"),
        Path("part2.jsonl"),
    ]
    # Made absolute it is still one, though the folder is none.
    (pattern,) = absolute_paths(["part[1].jsonl"])
    (path,) = find_files(pattern, "test").files
    assert path.samefile("part1.jsonl")


def test_a_folder_without_splits_is_read_whole(folder):
    touch(folder / "x/b/2.txt", folder / "x/a.jsonl", folder / "x/notes.md")
    assert found("x", "test") == (["a.jsonl", "b/2.txt", "notes.md"], "all")
    assert find_files("x", "test").notes == []


def test_what_holds_no_text_is_left_out_and_said(folder):
    touch(folder / "x/a.jsonl", folder / "x/.git/c.txt", folder / "x/.hidden.txt")
    touch(folder / "x/dataset_info.json", folder / "x/README.md", folder / "x/b/photo.png")
    assert found("x", "test") == (["a.jsonl"], "all")
    assert find_files("x", "test").notes == [
        "of 'x' is left out, as no text of the data set: 3 of 4 files, 'README.md' for one"
    ]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("validation.jsonl", "validation"),
        ("VAL.csv", "validation"),
        ("data-validation-00001.parquet", "validation"),
        ("data.test.jsonl.gz", "test"),
        ("train-00000-of-00002.parquet", "train"),
        ("train-00000-of-00002-0123456789abcdef.parquet", "train"),
        ("train_03.txt", "train"),
        ("validation/anything.txt", "validation"),
        ("dev/deep/the-last-train.txt", "validation"),
        ("dev/train.csv", "train"),
    ],
)
def test_a_name_that_says_its_split_by_itself(folder, name, split):
    touch(folder / "x" / name, folder / "x/one/eval.txt")
    assert found("x", split) == (sorted([name] + ["one/eval.txt"] * (split == "test")), split)


@pytest.mark.parametrize(
    "names",
    [
        ["moby-dick.txt", "the-last-train.txt", "a-valid-argument.txt"],
        ["the-last-train.txt"],
        ["the-last-train.txt", "a-valid-argument.txt"],
        ["testament.txt", "training-day.txt"],
        ["train-station.txt"],
        ["trains/a.txt", "testing-ground/b.txt"],
        ["the-train.txt", "the-train-2.txt"],
    ],
)
def test_titles_are_no_splits(folder, names):
    touch(*(folder / "x" / name for name in names))
    for split in ("train", "validation", "test"):
        assert found("x", split) == (sorted(names), "all")
    assert find_files("x", "test").notes == []


def test_one_title_with_several_splits(folder):
    touch(*(folder / f"x/ptb.{split}.txt" for split in ("train", "valid", "test")))
    assert found("x", "validation") == (["ptb.valid.txt"], "validation")
    touch(folder / "x/wiki.test.txt")
    assert found("x", "test")[1] == "all"


def test_a_folder_with_splits_gives_the_one_that_is_wanted_and_says_so(folder):
    touch(folder / "x/train/a.txt", folder / "x/test/b.txt", folder / "x/dev-00.parquet")
    touch(folder / "x/README.md")
    for split, expected in [
        ("train", "train/a.txt"),
        ("test", "test/b.txt"),
        ("validation", "dev-00.parquet"),
        ("val", "dev-00.parquet"),
    ]:
        assert found("x", split) == ([expected], split)
    assert find_files("x", "train").notes == [
        "of 'x' is read, as train: 1 of 3 files; the others are of test, validation",
        "of 'x' is left out, as no text of the data set: 1 of 4 files, 'README.md' for one",
    ]
    (folder / "x/dev-00.parquet").unlink()
    with pytest.raises(ConfigError, match=r"^data\.splits='validation': .* test, train$"):
        find_files("x", "validation")


def test_splits_beside_a_file_that_has_none_are_read_as_a_whole(folder):
    touch(folder / "x/train.csv", folder / "x/test.csv", folder / "x/more.csv")
    assert found("x", "test") == (["more.csv", "test.csv", "train.csv"], "all")
    assert find_files("x", "test").notes == [
        "'x' is read whole, as 'more.csv' does not say which split it is"
    ]


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ("gone.txt", "no such file or folder"),
        ("./gone", "no such file or folder"),
        ("a sentence that is too long to be the name of a file " * 9 + ".txt", "no such file or"),
        ("a\0b.txt", "no such file or folder"),
        ("~nobody-here/a.txt", "no such file or folder"),
        (["here.txt", "gone"], "no such file or folder"),
        ("*.jsonl", "no such file or folder"),
        ("page.pdf", "not a file of txt, md, jsonl"),
        ("pipe.txt", "not a file of txt, md, jsonl"),
        ("empty", "a folder without a file of txt"),
        (os.fsdecode(b"caf\xe9.txt"), "the name of this file is not UTF-8"),
        ("odd", "the name of this file is not UTF-8"),
    ],
)
def test_paths_that_are_refused(folder, dataset, told):
    touch(folder / "here.txt", folder / "page.pdf", folder / os.fsdecode(b"caf\xe9.txt"))
    touch(folder / "odd" / os.fsdecode(b"caf\xe9.txt"))
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe.txt")
    with pytest.raises(ConfigError, match=told) as caught:
        find_files(dataset, "test")
    assert caught.value.key == "data.dataset"
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_what_counts_as_local(folder):
    touch(folder / "wikitext")
    assert is_local("wikitext")
    assert not is_local("Salesforce/wikitext")
    assert not is_local("ptb")
    for path in ["a.txt", "./ptb", "~/ptb", "a/b/c", "/a", "texts/*", ["ptb"], "a/b.tsv.zst"]:
        assert is_local(path)


def test_absolute_paths_leave_hub_ids(folder):
    touch(folder / "demo")
    assert absolute_paths("Salesforce/wikitext") == "Salesforce/wikitext"
    assert absolute_paths("demo") == "demo"
    assert absolute_paths("a.txt") == str(folder / "a.txt")
    assert absolute_paths(["a.txt", "b/*.csv"]) == [str(folder / "a.txt"), str(folder / "b/*.csv")]
