"""How a process learns which of several it is, and of a run that it goes on with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jsonargparse import Namespace

from harness.cli.front import main
from harness.cli.launch import Launch, forget, keep_threads, launched, settled
from harness.cli.lightning_keys import processes
from harness.cli.resume import resumed
from harness.errors import ConfigError

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node-0",
    "MASTER_PORT": "29500",
}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_PROCID": "3",
}
HAND = {"MASTER_ADDR": "node-0", "MASTER_PORT": "29500", "NODE_RANK": "1"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, Launch()),
        (TORCHRUN, Launch("torchrun", 5, 2, 4, 1)),
        (SRUN | {"SLURM_LOCALID": "3"}, Launch("srun", 3, 2, 4, 3)),
        # As `srun --ntasks` alone has it, and where one node has more than the other.
        ({n: v for n, v in SRUN.items() if n != "SLURM_NTASKS_PER_NODE"}, Launch("srun", 3, 2)),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "7"}, Launch("srun", 3, 2)),
        (HAND, Launch("hand", 1)),
        (HAND | {"LOCAL_RANK": "2", "WORLD_SIZE": "8"}, Launch("lightning", 3, place=2)),
        # One process in a job of many, a single one under torchrun, and what was left behind.
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "1"}, Launch()),
        (TORCHRUN | {"WORLD_SIZE": "1"}, Launch()),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Launch()),
        ({"RANK": "one", "WORLD_SIZE": ""}, Launch()),
    ],
)
def test_how_a_process_was_started(env: dict[str, str], expected: Launch) -> None:
    assert launched(env) == expected


def test_srun_has_to_say_how_many_processes_a_node_has() -> None:
    asked = Namespace(devices="auto", num_nodes=1)
    with pytest.raises(ConfigError, match=r"trainer\.devices.*give it --ntasks-per-node"):
        processes(asked, Launch("srun", 0, 2))


def test_what_a_launcher_left_behind_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"RANK", "LOCAL_RANK", "SLURM_PROCID", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    for name in left:
        monkeypatch.setenv(name, "1")
    forget()
    assert not left & set(os.environ)


@pytest.mark.parametrize(
    ("launch", "threads", "before", "left"),
    [
        (Launch("torchrun", 0, 1, 2), "1", b"A=1\0B=2\0", None),
        (Launch("torchrun", 0, 1, 2), "1", None, None),
        # The user's own.
        (Launch("torchrun", 0, 1, 2), "1", b"A=1\0OMP_NUM_THREADS=1\0", "1"),
        (Launch("torchrun", 0, 1, 2), "3", b"", "3"),
        (Launch("torchrun", 0, 2, 1), "1", b"", "1"),  # torchrun leaves a single process alone
        (Launch(), "1", b"", "1"),
    ],
)
def test_a_process_of_several_has_the_threads_of_one(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    launch: Launch,
    threads: str,
    before: bytes | None,
    left: str | None,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    if before is not None:
        (tmp_path / "environ").write_bytes(before)
    keep_threads(launch, tmp_path / "environ")
    assert os.environ.get("OMP_NUM_THREADS") == left


@pytest.mark.parametrize(
    ("given", "node_is_alone", "child_is_alone"),
    [
        ([], True, True),
        ([("trainer.num_nodes", 1), ("trainer.devices", "auto")], True, True),
        ([("trainer.devices", 2)], True, False),
        ([("trainer.num_nodes", 2)], False, False),
    ],
)
def test_one_of_several_is_told_so(
    given: list[tuple[str, int]], node_is_alone: bool, child_is_alone: bool
) -> None:
    node, child = launched(HAND), launched(HAND | {"LOCAL_RANK": "1", "WORLD_SIZE": "2"})
    assert settled(node, given) == (Launch() if node_is_alone else node)
    assert settled(child, given) == (Launch() if child_is_alone else child)
    assert settled(launched(TORCHRUN), given) == launched(TORCHRUN)


def test_what_a_launcher_left_behind_silences_no_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (HAND | {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    for argv in (["valdate"], ["validate", "--model.prtrained", "x"], ["validate", "--resume"]):
        monkeypatch.setattr("sys.argv", ["harness", *argv])
        assert main() == 2
        assert capsys.readouterr().err.startswith("refused: ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").touch()
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "command").write_text("validate\n")
    return tmp_path


@pytest.mark.parametrize("joined", [False, True])
def test_a_run_is_resumed_by_its_own_configuration(folder: Path, joined: bool) -> None:
    given = [f"--resume={folder}"] if joined else ["--resume", str(folder)]
    config, end = str(folder / "config.yaml"), ["--run.resume", str(folder)]
    assert resumed(["validate", *given]) == ["validate", "-c", config, *end]
    more = ["--a.b", "1", "-c", "more.yaml"]
    assert resumed(["validate", *more[:2], *given, *more[2:]]) == [
        *("validate", "-c", config),
        *more,
        *end,
    ]
    assert resumed(["validate", *more]) == ["validate", *more]


def test_what_cannot_be_resumed_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a run of validate: python -m harness validate --res"):
        resumed(["test", "--resume", str(folder)])
    for argv in (["--resume"], ["--resume="], ["--resume", str(tmp_path / "nowhere")]):
        with pytest.raises(ConfigError, match="no such folder; give the folder of a run"):
            resumed(["validate", *argv])
    (folder / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"has no config\.yaml"):
        resumed(["validate", "--resume", str(folder)])


@pytest.mark.parametrize(
    ("devices", "nodes", "launch", "expected"),
    [
        ("auto", 1, Launch(), (1, 1)),
        (2, 1, Launch(), (2, 1)),
        ("2", 1, Launch("torchrun", 0, 1, 2), ("2", 1)),
        ("auto", 1, Launch("torchrun", 3, 2, 4), (4, 2)),
        ("auto", 2, Launch("srun", 3, 2, 4), (4, 2)),
        (4, 2, Launch("hand", 1), (4, 2)),
    ],
)
def test_a_trainer_takes_what_was_started(
    devices: object, nodes: int, launch: Launch, expected: tuple[object, int]
) -> None:
    asked = Namespace(devices=devices, num_nodes=nodes)
    assert processes(asked, launch) == dict(zip(("devices", "num_nodes"), expected, strict=True))


@pytest.mark.parametrize(
    ("devices", "nodes", "launch", "says"),
    [
        (3, 1, Launch("torchrun", 0, 1, 2), "started 2 processes on this node; auto takes them"),
        ("auto", 3, Launch("srun", 0, 2, 2), "srun has started 2 nodes; 1 takes them"),
        (1, 2, Launch(), "each node needs NODE_RANK"),
    ],
)
def test_what_no_launcher_has_started_is_refused(
    devices: object, nodes: int, launch: Launch, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        processes(Namespace(devices=devices, num_nodes=nodes), launch)
