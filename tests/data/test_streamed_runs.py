"""Runs over a text that is streamed, beside the same over the text as a whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import run as run_module
from harness.base import stages
from harness.data import stream
from harness.evaluation.measurement import Measurement

Run = Callable[..., tuple[int, str]]
FILES = ("documents.parquet", "generations.jsonl", "variants.csv", "activations.parquet")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    llama_folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """Calls `validate` on `texts.jsonl` in an empty folder; returns status and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *arguments: object) -> tuple[int, str]:
        common = [
            f"--model.pretrained={llama_folder}",
            "--data.dataset=texts.jsonl",
            "--model.variants.zeroed.criterion.threshold=0.6",
            "--model.variants.sigma5=null",
            "--model.resamples=200",
            "--data.batch_size=2",
            f"--run.name={name}",
        ]
        monkeypatch.setattr(sys, "argv", ["harness", "validate", *common, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_module()
        return int(stop.value.code or 0), capfd.readouterr().err

    return call


def write(texts: list[str | None]) -> None:
    Path("texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def folder(name: str) -> Path:
    return Path("logs") / name / "version_0"


def results(name: str) -> dict[str, Any]:
    found = json.loads((folder(name) / "results.json").read_text())
    del found["run"]["name"], found["run"]["arguments"]
    del found["run"]["started"], found["run"]["duration_seconds"]
    return found  # type: ignore[no-any-return]


TEXTS = [f"{number} " + "The quick brown fox. " * (1 + number % 4) for number in range(13)]


@pytest.mark.parametrize("texts", [["", *TEXTS[:5], None, "", TEXTS[1]], TEXTS[:1]])
def test_a_text_of_one_page_gives_the_same_files(run: Run, texts: list[str | None]) -> None:
    write(texts)
    assert run("whole")[0] == 0
    assert run("streamed", "--data.streaming=true")[0] == 0
    assert results("streamed") == results("whole")
    for name in FILES:
        one, other = (folder(run) / name for run in ("whole", "streamed"))
        assert one.exists() == other.exists()
        assert not one.exists() or one.read_bytes() == other.read_bytes()


def close(one: Any, other: Any) -> bool:
    """Whether figures are the same but for rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-4, abs=2e-6)
    return bool(one == other)


def test_pages_change_no_figure_but_by_rounding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PAGE_DOCUMENTS", 3)
    monkeypatch.setattr(stages, "SILENCE_SECONDS", 0.0)
    write([*TEXTS, TEXTS[0], ""])
    assert run("whole", "--data.prompts=[The quick brown]")[0] == 0
    status, err = run("streamed", "--data.streaming=true", "--data.prompts=[The quick brown]")
    assert status == 0
    # How many there are nobody knows beforehand.
    assert "\nscoring: 2 batches, ppl " in err
    assert "\nwriting texts: 0/1 batches" in err
    whole, streamed = results("whole"), results("streamed")
    assert streamed["data"] == whole["data"]
    assert streamed["data"]["documents"] == 14
    assert streamed["run"]["partial"] is False
    for part in ("variants", "warnings"):
        for record in (whole, streamed) if part == "variants" else ():
            for variant in record[part].values():
                del variant["activations"]  # the same sums, in other batches
        assert close(streamed[part], whole[part]), part
    one, other = ((folder(run) / "generations.jsonl").read_text() for run in ("whole", "streamed"))
    assert one == other


@pytest.mark.parametrize(("limit", "partial"), [(3, True), (7, False), (100, False)])
def test_a_number_of_batches(
    run: Run, monkeypatch: pytest.MonkeyPatch, limit: int, partial: bool
) -> None:
    monkeypatch.setattr(stream, "PAGE_DOCUMENTS", 4)
    write([text[:20] for text in TEXTS])  # of one window each
    more = ("--model.generation=null", f"--trainer.limit_val_batches={limit}")
    assert run("some", "--data.streaming=true", *more)[0] == 0
    assert results("some")["run"]["partial"] is partial
    assert results("some")["data"]["documents"] == min(2 * limit, 13)


def test_what_was_measured_before_a_file_broke_is_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PAGE_DOCUMENTS", 4)
    write(TEXTS)
    with Path("texts.jsonl").open("a") as file:
        file.write("{torn\n")
    status, err = run("broken", "--data.streaming=true", "--model.generation=null")
    assert status == 2
    assert "texts.jsonl': no JSON: line 14, character 2: " in err
    assert "Traceback" not in err
    assert (folder("broken") / "status").read_text() == "interrupted\n"
    (journal,) = (folder("broken") / "journal").glob("*.steps")
    assert len(Measurement.read(journal)) > 2


def test_a_share_of_a_stream_is_refused(run: Run) -> None:
    write(TEXTS)
    status, err = run("none", "--data.streaming=true", "--trainer.limit_val_batches=0.5")
    assert status == 2
    assert "trainer.limit_val_batches=0.5: of a text that is streamed nobody knows a share" in err
    assert not folder("none").exists()
