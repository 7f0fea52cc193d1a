"""The published conventions in ``configs/protocols`` on a corpus of local files.

What a protocol's windows are is compared in ``test_windows.py`` with the loops they are named
after; here their files are read and must say the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.data.documents import wikitext_detokenizer
from tests.tiny import tiny_tokenizer

PROTOCOLS = Path(__file__).parents[2] / "configs" / "protocols"
ROWS = ["", " = Title = \n", "", ' Robert " Bob " , born in 1 @,@ 900 . \n' * 4, " x \n" * 9]


@pytest.fixture
def pages(tmp_path: Path) -> list[str]:
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in ROWS))
    return [str(path)]


def keys_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((PROTOCOLS / f"{name}.yaml").read_text())["data"]


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


def scored(data: Any, pages: list[str], name: str, **changed: Any) -> tuple[list[Any], Any]:
    """Rows of a protocol as (ids with the last target, number scored), in order, and its record."""
    keys = keys_of(name) | {"batch_size": 1} | changed
    module = data(pages, **keys)
    module.setup("test")
    rows = {}
    for batch in module.test_dataloader():
        count = int((batch.targets != -100).sum())
        row = [*batch.input_ids[0].tolist(), int(batch.targets[0, -1])]
        assert batch.targets[0, -count:].tolist() == row[-count:]
        assert torch.all(batch.attention_mask == 1)
        rows[int(batch.windows)] = (row, count)
    return [rows[number] for number in sorted(rows)], module.corpus("test").record


@pytest.mark.parametrize("name", ["lm-eval", "lm-eval-wikitext"])
def test_lm_eval(data, pages, name):
    expected = []
    texts = [
        wikitext_detokenizer(row) if name == "lm-eval-wikitext" else row for row in ROWS if row
    ]
    for text in texts:
        ids, done = ids_of(text), 0
        while done < len(ids):
            end = min(done + 16, len(ids))
            whole = [256, *ids]
            expected.append((whole[max(0, end - 16) : end + 1], end - done))
            done = end
    rows, record = scored(data, pages, name, max_length=16)
    assert rows == expected
    assert record.tokens == sum(len(ids_of(text)) for text in texts)
    # Counted on the raw rows: the pieces between runs of white space, with the empty ends.
    assert record.words == 5 + (4 * 11 + 2) + (9 + 2)
    assert record.bytes == sum(len(row) for row in ROWS)


def test_hf_strided(data, pages):
    ids, expected, previous = ids_of("\n\n".join(ROWS)), [], 0
    for begin in range(0, len(ids), 7):
        end = min(begin + 16, len(ids))
        expected.append((ids[begin:end], end - previous - (begin == 0)))
        previous = end
        if end == len(ids):
            break
    assert keys_of("hf-strided")["stride"] == 512
    rows, record = scored(data, pages, "hf-strided", max_length=16, stride=7)
    assert rows == expected
    assert record.tokens == len(ids) - 1
    assert record.words is None


def test_gptq(data, pages):
    ids = [256, *ids_of("\n\n".join(ROWS))]
    expected = [(ids[i : i + 16], 15) for i in range(0, len(ids) - 15, 16)]
    assert keys_of("gptq")["max_length"] == 2048
    rows, record = scored(data, pages, "gptq", max_length=16)
    assert rows == expected
    assert record.documents == 5


@pytest.mark.parametrize("path", sorted(PROTOCOLS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_protocol_is_windows_join_bos_and_detokenizer_and_no_data_set(data, path):
    keys = keys_of(path.stem)
    assert set(keys) <= {"max_length", "stride", "join", "windows", "bos", "detokenizer"}
    assert set(keys) >= {"join", "windows", "bos", "detokenizer"}
    data(**keys)


@pytest.mark.parametrize(
    ("own", "protocol", "dataset", "column"),
    [
        ("gemma3-1b", "gptq", "Salesforce/wikitext", None),
        ("data/wikitext2", "gptq", "Salesforce/wikitext", "text"),
        ("data/wikitext2", "hf-strided", "Salesforce/wikitext", "text"),
        (
            "data/wikitext2-pages",
            "lm-eval-wikitext",
            "EleutherAI/wikitext_document_level",
            "page",
        ),
    ],
)
def test_a_data_set_and_a_protocol_merge(own, protocol, dataset, column):
    keys = yaml.safe_load((PROTOCOLS.parent / f"{own}.yaml").read_text())["data"]
    merged = keys | keys_of(protocol)
    assert (merged["dataset"], merged["name"]) == (dataset, "wikitext-2-raw-v1")
    assert merged.get("text_column") == column
    assert merged["windows"] == keys_of(protocol)["windows"]
