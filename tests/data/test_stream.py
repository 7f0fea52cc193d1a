"""A text that is streamed: the same windows as of the whole, each once, a page at a time."""

from __future__ import annotations

import gc
import gzip
import json
import queue
import random
import threading
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import torch

from harness.data import stream
from harness.data.batch import WindowBatch
from harness.data.pages import Cutter
from harness.data.plan import SENTINEL, deal
from harness.data.stream import take_page
from harness.errors import ConfigError

PAGE = 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stream, "PAGE_DOCUMENTS", PAGE)
    return tmp_path


def write(path: Path, texts: list[Any], column: str = "text") -> str:
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return str(path)


def some_texts(count: int = 23) -> list[Any]:
    draw = random.Random(count)
    texts: list[Any] = ["abcdefgh"[: draw.randint(1, 8)] * draw.randint(1, 3) for _ in range(count)]
    texts[5], texts[11] = "", None
    return texts


def whole(data: Any, dataset: Any, **keys: Any) -> Any:
    module = data(dataset, **keys)
    module.setup("validate")
    return module.corpus("validate")


def batches(module: Any, rank: int = 0, world_size: int = 1) -> list[WindowBatch]:
    module.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, limit_val_batches=1.0)
    return list(module.val_dataloader())


def streamed(data: Any, dataset: Any, **keys: Any) -> Any:
    module = data(dataset, streaming=True, **keys)
    module.setup("validate")
    return module


def naive_plan(lengths: list[list[int]], batch_size: int) -> list[list[int]]:
    """Batches of windows, given their lengths page by page."""
    plan, first = [], 0
    for page in lengths:
        left = list(range(first, first + len(page)))
        first += len(page)
        left.sort(key=lambda number: (-page[number - first], number))
        while left:
            plan.append(left[:batch_size])
            left = left[batch_size:]
    return plan


def same_text(one: Any, other: Any) -> None:
    assert one.record == other.record
    assert one.units == other.units
    assert list(one.notes) == list(other.notes)


@pytest.mark.parametrize(
    "keys",
    [
        {"max_length": 6},
        {"max_length": 6, "stride": 3},
        {"max_length": 6, "bos": "window"},
        {"max_length": 6, "windows": "strided", "bos": "none"},
        {"max_length": 6, "windows": "chunks"},
        {"max_length": 6, "max_documents": 9},
        {"detokenizer": "wikitext"},
    ],
)
def test_windows_units_and_record_are_those_of_the_whole_text(folder, data, keys):
    path = write(folder / "a.jsonl", [*some_texts(), " @-@ it 's , two"])
    expected = whole(data, path, batch_size=3, **keys)
    module = streamed(data, path, batch_size=3, **keys)
    found = batches(module)
    corpus = module.corpus("validate")
    assert corpus.is_whole
    same_text(corpus, expected)
    # Empty documents are left out before pages are made.
    pages: dict[int, list[int]] = {}
    for window in expected.windows:
        pages.setdefault(window.document // PAGE, []).append(window.length)
    assert len(pages) > 1
    plan = naive_plan(list(pages.values()), 3)
    assert plan != expected.plan
    assert [batch.windows.tolist() for batch in found] == plan
    assert [batch.number for batch in found] == list(range(len(plan)))
    for batch in found:
        alone = expected.rows[(batch.number, batch.windows.tolist())]
        assert torch.equal(batch.units, alone.units)
        assert torch.equal(batch.input_ids, alone.input_ids)
        assert torch.equal(batch.targets, alone.targets)
        assert batch.key == alone.key


def test_a_text_of_one_page_has_the_plan_of_the_whole(folder, data, monkeypatch):
    path = write(folder / "a.jsonl", some_texts())
    expected = whole(data, path, max_length=6)
    monkeypatch.setattr(stream, "PAGE_DOCUMENTS", 4096)
    module = streamed(data, path, max_length=6)
    assert module.longest_row() == expected.longest
    assert [batch.windows.tolist() for batch in batches(module)] == expected.plan


@pytest.mark.parametrize("world_size", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [1, 23])
def test_ranks_share_the_batches_exactly_once(folder, data, world_size, count):
    path = write(folder / "a.jsonl", some_texts()[:count])
    alone = batches(streamed(data, path, max_length=6, batch_size=2))
    shares = []
    for rank in range(world_size):
        module = streamed(data, path, max_length=6, batch_size=2)
        shares.append(batches(module, rank, world_size))
        # Every process knows of all of the text, and numbers on from there.
        assert module.corpus("validate").steps == len(alone)
        assert module.corpus("validate").record.windows == sum(len(b.windows) for b in alone)
    assert {len(share) for share in shares} == {-(-len(alone) // world_size)}
    real = [batch for share in shares for batch in share if batch.number != SENTINEL]
    assert {b.number: b.key for b in real} == {b.number: b.key for b in alone}
    assert set(Counter(w for b in real for w in b.windows.tolist()).values()) == {1}
    for batch in (b for share in shares for b in share if b.number == SENTINEL):
        assert not bool((batch.targets != -100).any())
        assert bool(batch.attention_mask.all())


def test_a_turn_is_dealt_to_all_at_once():
    asked = []

    def source():
        for number in range(5):
            asked.append(number)
            yield number

    dealt = deal(source(), 0, 2)
    assert next(dealt) == 0
    assert asked == [0, 1]
    assert list(dealt) == [2, 4]
    assert list(deal(iter(range(5)), 1, 2)) == [1, 3, None]
    assert list(deal(iter(()), 0, 2)) == []


def test_a_text_that_is_scored_again_gives_the_same_batches(folder, data):
    module = streamed(data, write(folder / "a.jsonl", some_texts()), max_length=6, batch_size=2)
    first = batches(module)
    expected = replace(module.corpus("validate").record)
    part = iter(module.val_dataloader())
    next(part)
    again = batches(module)
    assert [(b.number, b.key) for b in again] == [(b.number, b.key) for b in first]
    assert module.corpus("validate").record == expected


def test_of_a_text_that_is_read_in_part_nothing_more_is_told(folder, data):
    module = streamed(data, write(folder / "a.jsonl", ["abcdef"] * 9), max_length=6, batch_size=2)
    corpus = module.corpus("validate")
    part = iter(module.val_dataloader())
    for _ in range(2):
        next(part)
    assert (corpus.is_whole, corpus.steps, corpus.record.documents) == (False, 2, 4)
    assert len(corpus.units) == 4
    for _ in range(3):
        next(part)
    # The last page is known to be the last without another turn.
    assert (corpus.is_whole, corpus.steps, corpus.record.documents) == (True, 5, 9)
    exact = streamed(data, write(folder / "b.jsonl", ["abcdef"] * PAGE), max_length=6)
    assert exact.corpus("validate").is_whole


def test_a_page_ends_with_many_characters_too(folder, monkeypatch):
    monkeypatch.setattr(stream, "PAGE_CHARACTERS", 10)
    documents = iter([SimpleNamespace(text="x" * size) for size in (4, 5, 3, 20, 1, 1, 1, 1, 1)])
    pages: list[list[int]] = []
    while page := take_page(documents):  # type: ignore[arg-type]
        pages.append([len(document.text) for document in page])
    assert pages == [[4, 5, 3], [20], [1, 1, 1, 1], [1]]


def test_few_pages_are_in_memory(folder, data, monkeypatch):
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    made: list[int] = []
    cut = Cutter.page

    def page(self: Cutter, documents: Any) -> Any:
        result = cut(self, documents)
        alive.add(result.rows)
        made.append(len(documents))
        return result

    monkeypatch.setattr(Cutter, "page", page)
    module = streamed(data, write(folder / "a.jsonl", ["abcdef"] * 50), batch_size=2)
    module.trainer = SimpleNamespace(global_rank=0, world_size=1, limit_val_batches=1.0)
    most = 0
    for _ in module.val_dataloader():
        gc.collect()
        most = max(most, len(alive))
    assert sum(made) == 50
    assert max(made) == PAGE
    assert most <= 2


def test_a_page_is_made_while_the_one_before_is_scored(folder, data, monkeypatch):
    made: queue.Queue[int] = queue.Queue()
    cut = Cutter.page

    def page(self: Cutter, documents: Any) -> Any:
        made.put(threading.get_ident())
        return cut(self, documents)

    monkeypatch.setattr(Cutter, "page", page)
    module = streamed(data, write(folder / "a.jsonl", ["abcdef"] * 2 * PAGE), batch_size=PAGE)
    module.trainer = SimpleNamespace(global_rank=0, world_size=1, limit_val_batches=1.0)
    scored = iter(module.val_dataloader())
    next(scored)
    assert [made.get(timeout=9) == threading.get_ident() for _ in range(2)] == [True, False]
    # What was read ahead is not counted before it is dealt.
    assert module.corpus("validate").record.documents == PAGE
    assert len(list(scored)) == 1
    assert module.corpus("validate").record.documents == 2 * PAGE


@pytest.mark.parametrize(("most", "pages"), [(1, 1), (PAGE, 1), (PAGE + 1, 2), (1.0, 3)])
def test_a_page_behind_the_limit_is_not_made(folder, data, monkeypatch, most, pages):
    made: list[int] = []
    cut = Cutter.page

    def page(self: Cutter, documents: Any) -> Any:
        made.append(len(documents))
        return cut(self, documents)

    monkeypatch.setattr(Cutter, "page", page)
    path = write(folder / "a.jsonl", ["abcdef"] * 3 * PAGE)
    module = data(path, streaming=True, batch_size=1)
    module.trainer = SimpleNamespace(global_rank=0, world_size=1, limit_val_batches=most)
    module.setup("validate")
    assert len(list(module.val_dataloader())) == (most if isinstance(most, int) else 3 * PAGE)
    assert len(made) == pages


def test_any_format_and_several_files(folder, data):
    texts = ["one, two", "", "NA", "three four five", "é", "six"]
    write(folder / "a.jsonl", texts)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    cells = "".join(f'"{text}"\n' for text in texts)
    (folder / "c.csv").write_text("text\n" + cells)
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / "d.parquet")
    (folder / "e.json").write_bytes((folder / "a.jsonl").read_bytes())
    (folder / "f.txt").write_text("a text by itself")
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(folder / "saved")
    files = [str(path) for path in sorted(folder.glob("*.*")) if path.is_file()]
    assert len(files) == 6
    for dataset in (*files, str(folder / "saved"), files):
        expected = whole(data, dataset)
        module = streamed(data, dataset)
        batches(module)
        same_text(module.corpus("validate"), expected)


def test_the_column_is_chosen_as_ever(folder, data):
    path = write(folder / "a.jsonl", ["some text"] * 6, column="page")
    module = streamed(data, path)
    assert module.corpus("validate").record.text_column == "page"
    with pytest.raises(ConfigError, match=r"^data\.text_column='other': no such column; there are"):
        streamed(data, path, text_column="other")


def clone(folder: Path, shards: list[str]) -> str:
    (folder / "clone").mkdir()
    for number, lines in enumerate(shards):
        (folder / f"clone/part-{number}.jsonl").write_text(lines)
    (folder / "clone/README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n"
        "  - split: test\n    path: part-*.jsonl\n---\n"
    )
    return str(folder / "clone")


def test_a_hub_data_set_is_streamed(folder, data):
    rows = [json.dumps({"text": text, "id": 1}) + "\n" for text in some_texts()]
    keys = {"name": "en", "splits": {"validate": "test"}, "max_length": 6}
    path = clone(folder, ["".join(rows[:9]), "".join(rows[9:])])
    expected = whole(data, path, **keys)
    module = streamed(data, path, **keys)
    batches(module)
    same_text(module.corpus("validate"), expected)
    with pytest.raises(ConfigError) as caught:
        streamed(data, path, name="en")
    assert str(caught.value) == "data.splits.validate='validation': there are ['test']"


def test_a_hub_data_set_is_not_downloaded(data, monkeypatch):
    asked = []

    def load(*args: Any, **keys: Any) -> Any:
        asked.append(keys)
        rows = [{"page": "some text", "n": 1}, {"page": "more", "n": 2}]
        return datasets.IterableDataset.from_generator(lambda: iter(rows))

    monkeypatch.setattr(datasets, "load_dataset", load)
    module = data("a/b", streaming=True)
    module.trainer = SimpleNamespace(
        state=SimpleNamespace(fn=SimpleNamespace(value="validate")), limit_val_batches=1.0
    )
    module.prepare_data()
    assert not asked
    module.setup("validate")
    # Nothing is declared of what a generator makes: the first rows tell.
    assert module.corpus("validate").record.text_column == "page"
    assert asked == [{"split": "validation", "revision": None, "streaming": True}]


def test_a_connection_that_breaks_is_told_by_row(data, folder, monkeypatch):
    def rows() -> Any:
        for number in range(6):
            yield {"text": f"text {number}"}
        raise ConnectionError("the line\nis dead")

    monkeypatch.setattr(stream, "PAGE_DOCUMENTS", 2)
    monkeypatch.setattr("harness.data.arrow_tables._ROWS_AT_ONCE", 3)
    source = datasets.IterableDataset.from_generator(rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **keys: source)
    module = streamed(data, "a/b")
    seen = iter(module.val_dataloader())
    assert [next(seen).number, next(seen).number] == [0, 1]
    with pytest.raises(ConfigError) as caught:
        next(seen)
    assert str(caught.value) == "data.dataset='a/b': cannot be read: the line (behind row 6)"


def test_a_file_that_breaks_in_the_middle_is_told_by_row(folder, data):
    path = Path(write(folder / "a.jsonl", ["some text"] * 10))
    path.write_text(path.read_text() + '{"text": "torn\n')
    module = streamed(data, str(path))
    seen = iter(module.val_dataloader())
    assert [next(seen).number, next(seen).number] == [0, 1]
    with pytest.raises(ConfigError, match=rf"^data\.dataset='{path}': no JSON: line 11, character"):
        next(seen)
    assert module.corpus("validate").record.documents == 8


def test_a_parquet_file_that_breaks_in_the_middle_is_told_by_row(folder, data, monkeypatch):
    monkeypatch.setattr("harness.data.arrow_tables._ROWS_AT_ONCE", 4)
    path = folder / "a.parquet"
    texts = [f"some text {number}" for number in range(40)]
    pyarrow.parquet.write_table(
        pyarrow.table({"text": texts}), path, row_group_size=10, compression="none"
    )
    raw = bytearray(path.read_bytes())
    start = pyarrow.parquet.read_metadata(path).row_group(2).column(0).dictionary_page_offset
    raw[start : start + 12] = b"\xff" * 12
    path.write_bytes(bytes(raw))
    module = streamed(data, str(path))
    with pytest.raises(ConfigError, match=r"a\.parquet': cannot be read: .* \(behind row \d+\)$"):
        batches(module)


@pytest.mark.parametrize(
    ("texts", "keys", "told"),
    [
        ([], {}, "no text in it (split all)"),
        (["", None, ""], {}, "no text in it (split all)"),
        (["abc"] * 9, {"windows": "chunks", "max_length": 8}, "(27 tokens in all)"),
    ],
)
def test_a_text_with_nothing_to_score_is_refused_in_setup(folder, data, texts, keys, told):
    with pytest.raises(ConfigError) as caught:
        streamed(data, write(folder / "a.jsonl", texts), **keys)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_documents_too_short_to_score_fill_no_page(folder, data):
    texts = ["abc"] * 9 + ["abcdefgh"] + ["abc"] * 9
    path = write(folder / "a.jsonl", texts)
    keys = {"windows": "chunks", "max_length": 8, "bos": "none"}
    module = streamed(data, path, **keys)
    assert [batch.windows.tolist() for batch in batches(module)] == [[0]]
    same_text(module.corpus("validate"), whole(data, path, **keys))
    assert module.corpus("validate").record.words is None


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"streaming": "yes"}, "data.streaming='yes': give true or false"),
        ({"streaming": 1}, "data.streaming=1: give true or false"),
        (
            {"streaming": True, "join": "corpus"},
            "data.join='corpus': joins all of the text, which data.streaming does not hold; "
            "choose document",
        ),
    ],
)
def test_values_are_refused_at_once(data, keys, told):
    with pytest.raises(ConfigError) as caught:
        data("not there", **keys)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("stage", "limit", "key"),
    [("fit", 1.0, "data.streaming"), ("validate", 0.5, "trainer.limit_val_batches")],
)
def test_what_needs_the_whole_text_is_refused_before_it_is_read(data, stage, limit, key):
    module = data("not/there/at/all.jsonl", streaming=True)
    module.trainer = SimpleNamespace(limit_val_batches=limit, global_rank=0, world_size=1)
    with pytest.raises(ConfigError) as caught:
        module.setup(stage)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


def test_a_list_in_json_is_refused(folder, data):
    (folder / "a.json").write_text(json.dumps(["one text", "another"]))
    with pytest.raises(ConfigError, match=r"one JSON value, .* give JSON lines$"):
        streamed(data, str(folder / "a.json"))


def test_openings_are_of_the_first_page(folder, data):
    texts = [f"{number} " + "some words in a row " * 3 for number in range(9)]
    module = data(write(folder / "a.jsonl", texts), streaming=True, prompts="openings")
    module.source.new_tokens = 4
    module.setup("validate")
    assert [text[0] for text in module.prompt_texts("validate")] == list("0123")
    windows, prompts = module.val_dataloader()
    count = len(list(windows))
    # Numbers of steps go on behind those of the windows.
    assert [batch.step for batch in prompts] == [count]
