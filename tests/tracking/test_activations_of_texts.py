"""Activation statistics while text is generated, and of several calls with the same objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import parquet

from harness.data.prompts import PromptRows
from harness.outliers import AbsoluteThreshold
from harness.outliers.variants import VariantConfig
from harness.probes import Sites
from harness.probes.settings import ActivationStatistics
from harness.writing.settings import Generation
from tests.running import Ran, again, run
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer

PROMPTS = ["One", "Two and", "Three and a half"]
NEW = 5
VARIANTS = {"zeroed": VariantConfig(criterion=AbsoluteThreshold(0.5), controls=2)}
OBSERVED = ["original", "zeroed", "zeroed-control-0"]
KEYS = ("step", "variant", "site", "phase", "part")

Start = Callable[..., Ran]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    folder = save_tiny(tmp_path / "model", "llama")
    (tmp_path / "text.jsonl").write_text('{"text": "some words"}\n{"text": "and more of them"}\n')

    def started(command: str) -> Ran:
        return run(
            folder,
            tmp_path / "text.jsonl",
            tmp_path / "logs",
            command=command,
            model={
                "variants": VARIANTS,
                "generation": Generation(max_new_tokens=NEW),
                "activations": ActivationStatistics(),
            },
            max_length=24,
            batch_size=2,
            prompts=PROMPTS,
            prompt_batch_size=2,
        )

    return started


def rows_of(ran: Ran) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(ran.folder / "activations.parquet").to_pylist()
    return rows


def test_prompts_come_after_windows_and_decoding_stands_apart(start: Start) -> None:
    ran = start("validate")
    rows = rows_of(ran)
    assert {row["variant"] for row in rows} == set(OBSERVED)
    # One batch of windows, two of prompts: the longest first.
    phases = {step: {r["phase"] for r in rows if r["step"] == step} for step in (0, 1, 2)}
    assert phases == {0: {"prefill"}, 1: {"prefill", "decode"}, 2: {"prefill", "decode"}}
    assert max(row["step"] for row in rows) == 2
    for variant in OBSERVED:
        norm = [r for r in rows if r["site"] == "model.norm" and r["variant"] == variant]
        written = ran.totals.continued[variant].texts
        lengths = [len(tiny_tokenizer()(prompt)["input_ids"]) for prompt in PROMPTS]
        expected = {
            ("prefill", "first"): len(PROMPTS),
            ("prefill", "rest"): sum(lengths) - len(PROMPTS),
            # The last token of a text is never read.
            ("decode", "rest"): sum(max(0, len(text.tokens) - 1) for text in written.values()),
        }
        found: Counter[tuple[str, str]] = Counter()
        for row in norm:
            if row["step"]:
                found[row["phase"], row["part"]] += row["count"]
        assert found == {key: 32 * tokens for key, tokens in expected.items() if tokens}


def test_a_second_call_goes_on_where_the_first_ended(start: Start) -> None:
    ran = start("validate")
    first = rows_of(ran)
    again(ran)
    rows = rows_of(ran)
    assert rows[: len(first)] == first
    assert [row | {"step": row["step"] - 3} for row in rows[len(first) :]] == first
    keys = [tuple(row[key] for key in KEYS) for row in rows]
    assert len(set(keys)) == len(keys)


def test_predict_sums_up_what_flowed_while_prompts_were_read(start: Start) -> None:
    ran = start("predict")
    model = tiny_model("llama")
    largest: dict[str, float] = {}
    for site in Sites().find(model):

        def keep(_: Any, __: Any, output: torch.Tensor, name: str = site.name) -> None:
            largest[name] = max(largest.get(name, 0.0), float(output.abs().max()))

        model.get_submodule(site.name).register_forward_hook(keep)
    ids = [tiny_tokenizer()(prompt)["input_ids"] for prompt in PROMPTS]
    for number in range(len(ids)):
        row = PromptRows(ids, 0, lambda: 0)[0, [number]]
        with torch.no_grad():
            model(row.input_ids, attention_mask=row.attention_mask)
    found = ran.results.variants["original"].activations
    assert found is not None
    site = max(largest, key=largest.__getitem__)
    assert found.max_abs_site == site
    assert found.max_abs == pytest.approx(largest[site], rel=1e-5)
    assert ran.results.variants["zeroed"].activations is not None
    assert ran.results.controls["zeroed-control-1"].activations is None
