"""Which files a path means, and what a text file holds."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.data.files import absolute_paths, find_files, is_local, read_text
from harness.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def names(files: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files]


def test_text_is_read_exactly(folder):
    raw = "\ufeffone\r\ntwo\rthree\n\n é\x0b".encode()
    (folder / "a.txt").write_bytes(raw)
    (folder / "b.txt.gz").write_bytes(gzip.compress(raw))
    assert read_text(folder / "a.txt").encode() == raw
    assert read_text(folder / "b.txt.gz").encode() == raw


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("a.txt", b"abc\xff", r"not UTF-8 \(byte 3"),
        ("a.txt.gz", b"no archive", "cannot be read"),
        (
            "a.txt.gz",
            gzip.compress(b"some text that is cut short", mtime=0)[:-12],
            "cannot be read",
        ),
    ],
)
def test_text_that_cannot_be_read(folder, name, raw, told):
    (folder / name).write_bytes(raw)
    with pytest.raises(ConfigError, match=told):
        read_text(folder / name)


@pytest.mark.parametrize("name", ["a.txt", "b.JSONL", "c.json", "d.csv", "e.parquet", "f.csv.gz"])
def test_a_file_is_read_whole_whatever_it_is_called(folder, name):
    touch(folder / f"train-{name}")
    assert find_files(f"train-{name}", "test", "data.splits.test") == (
        [Path(f"train-{name}")],
        "all",
    )


def test_lists_keep_their_order_and_patterns_are_sorted(folder):
    touch(folder / "b.txt", folder / "a.txt", folder / "c.csv")
    files, split = find_files(["c.csv", "*.txt"], "test", "data.splits.test")
    assert [path.name for path in files] == ["c.csv", "a.txt", "b.txt"]
    assert split == "all"


def test_a_folder_without_splits_is_read_whole(folder):
    touch(folder / "x/b/2.txt", folder / "x/a.jsonl", folder / "x/notes.md")
    touch(folder / "x/.git/c.txt", folder / "x/dataset_info.json")
    files, split = find_files("x", "test", "data.splits.test")
    assert names(files, Path("x")) == ["a.jsonl", "b/2.txt"]
    assert split == "all"


def test_a_folder_with_splits_gives_the_one_that_is_wanted(folder):
    touch(folder / "x/train/a.txt", folder / "x/test/b.txt", folder / "x/wiki-dev-00.parquet")
    for split, expected in [
        ("train", "train/a.txt"),
        ("test", "test/b.txt"),
        ("validation", "wiki-dev-00.parquet"),
        ("val", "wiki-dev-00.parquet"),
    ]:
        assert names(find_files("x", split, "k")[0], Path("x")) == [expected]
    assert find_files("x", "val", "k")[1] == "val"


def test_a_files_own_name_rules_over_its_folder(folder):
    touch(folder / "x/dev/train.csv", folder / "x/dev/b.csv")
    assert names(find_files("x", "train", "k")[0], Path("x")) == ["dev/train.csv"]
    assert names(find_files("x", "validation", "k")[0], Path("x")) == ["dev/b.csv"]


def test_a_folder_without_the_split_that_is_wanted(folder):
    touch(folder / "x/train.csv", folder / "x/test.csv")
    with pytest.raises(ConfigError, match=r"^data\.splits\.validate='validation': .* test, train$"):
        find_files("x", "validation", "data.splits.validate")


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ("gone.txt", "no such file or folder"),
        ("./gone", "no such file or folder"),
        (["here.txt", "gone"], "no such file or folder"),
        ("*.jsonl", "no such file or folder"),
        ("page.pdf", "not a file of txt, jsonl"),
        ("empty", "a folder without a file of txt"),
    ],
)
def test_paths_that_are_refused(folder, dataset, told):
    touch(folder / "here.txt", folder / "page.pdf")
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match=told) as caught:
        find_files(dataset, "test", "data.splits.test")
    assert caught.value.key == "data.dataset"
    assert "\n" not in str(caught.value)


def test_what_counts_as_local(folder):
    touch(folder / "wikitext")
    assert is_local("wikitext")
    assert not is_local("Salesforce/wikitext")
    assert not is_local("ptb")
    for path in ["a.txt", "./ptb", "~/ptb", "a/b/c", "/a", "texts/*", ["ptb"]]:
        assert is_local(path)


def test_absolute_paths_leave_hub_ids(folder):
    touch(folder / "demo")
    assert absolute_paths("Salesforce/wikitext") == "Salesforce/wikitext"
    assert absolute_paths("demo") == "demo"
    assert absolute_paths("a.txt") == str(folder / "a.txt")
    assert absolute_paths(["a.txt", "b/*.csv"]) == [str(folder / "a.txt"), str(folder / "b/*.csv")]
