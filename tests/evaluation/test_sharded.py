"""A model divided among two processes measures what the whole one measures in one."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.evaluation.step import StepResult
from harness.outliers.entries import bits
from tests.sharded import LENGTHS, measured
from tests.tiny import FAMILIES, save_tiny, tiny_model

pytestmark = pytest.mark.slow

NAMES = ("llama", "gemma3")
WAYS = ("2x1", "1x2")
CASES = [(name, way) for name in NAMES for way in WAYS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sharded")
    # Of sizes that two processes cannot share evenly.
    odd = {"vocab_size": 263, "intermediate_size": 49}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "gemma3", FAMILIES["gemma3"] | odd)
        return {name: save_tiny(root / name, name) for name in NAMES}


@pytest.fixture(scope="module")
def alone(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    torch.set_num_threads(1)
    return {name: measured(folder, None) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def divided(folders: dict[str, Path]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """What each of two processes says, by model and by how it was divided."""
    out = folders["llama"].parent / "out"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.sharded", str(out), ",".join(WAYS)]
    processes = [
        subprocess.Popen(
            [*command, *map(str, folders.values())],
            env=os.environ | place | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n\n".join(said)
    files = [Path(f"{out}.{rank}").read_bytes() for rank in "01"]
    found = [pickle.loads(file) for file in files]
    return {case: [each[case] for each in found] for case in CASES}


def steps_of(processes: list[dict[str, Any]], way: str) -> dict[int, StepResult]:
    """Those of processes with batches of their own; of others the first one's are taken."""
    taken = processes if way == "2x1" else processes[:1]
    found = {number: data for each in taken for number, data in each["steps"].items()}
    return {number: StepResult.from_bytes(found[number]) for number in sorted(found)}


@pytest.mark.parametrize(("name", "way"), CASES)
def test_each_process_keeps_its_share_alone(alone, divided, name, way):
    total = alone[name]["stored"]
    norms = 4 * sum(p.numel() for n, p in tiny_model(name).named_parameters() if "norm" in n)
    rows = 4 * 32 * (1 + 2 * 2)  # of the embedding and of two layers, where sizes are odd
    for process in divided[name, way]:
        assert process["stored"] <= total / 2 + norms + rows
    assert sum(process["stored"] for process in divided[name, way]) >= total


@pytest.mark.parametrize(("name", "way"), CASES)
def test_what_is_told_of_the_model_is_the_same(alone, divided, name, way):
    for process in divided[name, way]:
        for key in ("class", "parameters", "split", "subjects", "edits", "tied"):
            assert process[key] == alone[name][key], key
    assert alone[name]["split"] is None
    assert bool(alone[name]["tied"]) == (name == "gemma3")


@pytest.mark.parametrize(("name", "way"), CASES)
def test_the_same_entries_are_selected_and_drawn(alone, divided, name, way):
    for process in divided[name, way]:
        for subject, patch in alone[name]["patches"].items():
            found = process["patches"][subject]
            assert list(found) == list(patch)
            for tensor, parts in patch.items():
                for part, other in zip(parts, found[tensor], strict=True):
                    assert torch.equal(bits(part), bits(other)), (subject, tensor)


@pytest.mark.parametrize(("name", "way"), CASES)
def test_patches_change_weights_and_give_them_back(alone, divided, name, way):
    assert alone[name]["changed"].count(True) == len(alone[name]["changed"]) - 2
    processes = divided[name, way]
    anywhere = [any(each) for each in zip(*(p["changed"] for p in processes), strict=True)]
    assert anywhere == alone[name]["changed"]
    assert all(process["restored"] for process in processes)


@pytest.mark.parametrize("name", NAMES)
def test_layers_gathered_one_by_one_measure_the_same_bits(alone, divided, name):
    steps = steps_of(divided[name, "2x1"], "2x1")
    assert list(steps) == list(range(len(LENGTHS) + 2))
    for number, step in steps.items():
        if step.is_scored:
            assert step.to_bytes() == alone[name]["steps"][number], number
        else:
            # The whole model writes all texts as one batch, the divided one those of each variant.
            agree(step, StepResult.from_bytes(alone[name]["steps"][number]))


@pytest.mark.parametrize(("name", "way"), CASES)
def test_chunks_and_groups_agree(alone, divided, name, way):
    close = {"rtol": 0.0, "atol": 0.0} if way == "2x1" else {"rtol": 1e-4, "atol": 1e-5}
    for process in divided[name, way]:
        [(number, scores)] = process["chunks"].items()
        for subject, parts in alone[name]["chunks"][number].items():
            for part, other in zip(parts, scores[subject], strict=True):
                assert part is other is None or torch.allclose(part, other, **close)


@pytest.mark.parametrize("way", WAYS)
def test_where_one_process_alone_breaks_is_found(alone, divided, way):
    said = [
        note
        for step in steps_of(divided["llama", way], way).values()
        for note in step.outcomes["broken"].notes
    ]
    place = "model.embed_tokens (its weight is not finite)"
    assert said == [f"broken: NaN or infinity, first at {place}, in batch 1."]


@pytest.mark.parametrize("name", NAMES)
def test_layers_cut_into_channels_measure_the_same(alone, divided, name):
    processes = divided[name, "1x2"]
    assert processes[0]["steps"] == processes[1]["steps"]
    for number, step in steps_of(processes, "1x2").items():
        agree(step, StepResult.from_bytes(alone[name]["steps"][number]))


def agree(step: StepResult, whole: StepResult) -> None:
    """Asserts that two steps hold the same but for rounding."""
    assert list(step.outcomes) == list(whole.outcomes)
    for subject, outcome in step.outcomes.items():
        due = whole.outcomes[subject]
        for row, other in zip(outcome.tally.rows, due.tally.rows, strict=True):
            assert row.nll == pytest.approx(other.nll, rel=3e-7, nan_ok=True)
        assert outcome.notes == due.notes
        assert {n: t.tokens for n, t in outcome.texts.items()} == {
            n: t.tokens for n, t in due.texts.items()
        }
        assert list(outcome.moments) == list(due.moments)
        assert outcome.unplaced == due.unplaced
        for where, moments in outcome.moments.items():
            expected = due.moments[where]
            for part in ("count", "beyond", "beyond_sigmas", "massive"):
                assert getattr(moments, part) == getattr(expected, part), (where, part)
            for part in ("max_abs", "mean", "rms", "kurtosis"):
                near = pytest.approx(getattr(expected, part), rel=1e-4, abs=1e-6, nan_ok=True)
                assert getattr(moments, part) == near, (where, part)
