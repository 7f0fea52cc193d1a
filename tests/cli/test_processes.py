"""Several processes give what one gives, and whatever ends a run, nothing measured is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from tensorboard.compat.proto.summary_pb2 import Summary

from tests.same import differences, events
from tests.tiny import save_tiny

ROOT = Path(__file__).parents[2]
WORDS = [
    "the",
    "a",
    "model",
    "of",
    "language",
    "text",
    "with",
    "words",
    "and",
    "some",
    "other",
    "things",
    "that",
    "are",
    "said",
    "in",
    "it",
]
TROUBLE = "--model.variants.zeroed.criterion"
TORCHRUN = ("-m", "torch.distributed.run")
MODULE = ("-m", "harness")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its configuration and texts that make 15 batches of unequal width."""
    folder = tmp_path_factory.mktemp("processes")
    save_tiny(folder / "tiny")
    drawn = random.Random(1)
    lengths = [drawn.randint(2, 25) for _ in range(13)]
    texts = [" ".join(drawn.choices(WORDS, k=length)) for length in lengths]
    lines = (json.dumps({"text": text}) for text in texts)
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    config = {
        "model": {
            "pretrained": "tiny",
            "variants": {
                "zeroed": {
                    "criterion": {
                        "class_path": "AbsoluteThreshold",
                        "init_args": {"threshold": 0.05},
                    },
                    "controls": 2,
                }
            },
            "generation": {"max_new_tokens": 4},
        },
        "data": {
            "dataset": "texts.jsonl",
            "max_length": 32,
            "batch_size": 2,
            "prompt_batch_size": 2,
            "prompts": ["One", "Two of them", "Three", "Four and more", "Five"],
        },
        "run": {"name": "mine"},
        "trainer": {"accelerator": "cpu"},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    return folder


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(place: Path) -> Iterator[Start]:
    """Starts the command line in that folder, and ends what is left of it."""
    started: list[subprocess.Popen[str]] = []
    kept = {"PATH", "HOME", "TMPDIR", "HF_HUB_OFFLINE", "HF_MODULES_CACHE", "LANG"}
    base = {name: value for name, value in os.environ.items() if name in kept}
    base |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    def begin(
        *arguments: object, by: tuple[str, ...] = MODULE, first: tuple[str, ...] = (), **env: object
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*first, sys.executable, *by, *map(str, arguments)],
            cwd=place,
            env=base | {name: str(value) for name, value in env.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


Ended = tuple[int, str, Path]


@pytest.fixture(scope="module")
def run(place: Path, start: Start) -> Callable[..., Ended]:
    """Runs a command to its end; returns status, what it said, and the run folder."""

    def call(
        logs: str,
        *arguments: object,
        command: str = "validate",
        config: tuple[str, ...] = ("-c", "tiny.yaml"),
        **how: object,
    ) -> Ended:
        given = (*config, "--run.save_dir", logs, *arguments)
        process = start(command, *given, **how)
        said, _ = process.communicate(timeout=400)
        return process.returncode, said, place / logs / "mine" / "version_0"

    return call


@pytest.fixture(scope="module")
def alone(run: Callable[..., Ended]) -> Path:
    """What one process gives."""
    status, said, folder = run("alone")
    assert status == 0, said
    return folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def resume(start: Start, folder: Path, *arguments: object) -> tuple[int, str]:
    process = start("validate", "--resume", folder, *arguments)
    said, _ = process.communicate(timeout=400)
    return process.returncode, said


@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_gives_what_one_gives(
    run: Callable[..., Ended], alone: Path, processes: int
) -> None:
    status, said, folder = run(f"of-{processes}", "--trainer.devices", processes)
    assert status == 0, said
    assert differences(alone, folder) == []
    assert json.loads((folder / "results.json").read_text())["run"]["world_size"] == processes
    # The terminal speaks once, and counts what all have done.
    assert said.count("\nreport  ") == 1
    assert said.count("\nscoring\n") == 1
    assert len(list((folder / "journal").glob("*.steps"))) == processes


def test_more_processes_than_batches(run: Callable[..., Ended]) -> None:
    given = ("--data.batch_size", 64, "--data.prompt_batch_size", 5)
    one, two = (run(f"few-{n}", *given, "--trainer.devices", n) for n in (1, 3))
    assert (one[0], two[0]) == (0, 0), two[1]
    assert differences(one[2], two[2]) == []
    assert "note: 2 of 3 processes have nothing to do (batches in all: 1); " in two[1]


def test_prompts_alone(run: Callable[..., Ended]) -> None:
    one, two = (run(f"predict-{n}", "--trainer.devices", n, command="predict") for n in (1, 2))
    assert (one[0], two[0]) == (0, 0), two[1]
    assert differences(one[2], two[2]) == []
    assert (one[2] / "generations.jsonl").exists()


def test_a_limit_is_that_of_all_processes(run: Callable[..., Ended]) -> None:
    given = ("--trainer.limit_test_batches", 3)
    one, two = (run(f"limit-{n}", *given, "--trainer.devices", n, command="test") for n in (1, 2))
    assert (one[0], two[0]) == (0, 0), two[1]
    assert differences(one[2], two[2]) == []


@contextmanager
def two_networks() -> Iterator[tuple[str, tuple[str, ...], tuple[dict[str, str], dict[str, str]]]]:
    """A network of its own for the second of two nodes, where the system lets us make one.

    Yields:
        Address of the first node, what the second is started by, and the environment of each; where
        there is one network, that of this machine alone.
    """
    name, near, far = (f"{end}{os.getpid() % 10**6}" for end in ("nodes", "near", "far"))
    inside = ("ip", "netns", "exec", name)
    steps = (
        ("ip", "netns", "add", name),
        ("ip", "link", "add", near, "type", "veth", "peer", "name", far),
        ("ip", "link", "set", far, "netns", name),
        ("ip", "addr", "add", "10.199.7.1/24", "dev", near),
        ("ip", "link", "set", near, "up"),
        (*inside, "ip", "addr", "add", "10.199.7.2/24", "dev", far),
        (*inside, "ip", "link", "set", far, "up"),
    )
    try:
        done = shutil.which("ip") and all(
            subprocess.run(step, capture_output=True).returncode == 0 for step in steps
        )
        if done:
            yield "10.199.7.1", inside, ({"GLOO_SOCKET_IFNAME": near}, {"GLOO_SOCKET_IFNAME": far})
        else:
            yield "127.0.0.1", (), ({}, {})
    finally:
        if shutil.which("ip"):
            subprocess.run(("ip", "netns", "del", name), capture_output=True)


def test_two_nodes_with_and_without_a_folder_that_both_see(
    place: Path, start: Start, alone: Path
) -> None:
    (place / "nodes-own").mkdir()
    hidden = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none nodes-own && exec "$0" "$@"')
    if subprocess.run([*hidden[:4], "mount -t tmpfs none nodes-own"], cwd=place).returncode:
        hidden = ()

    with two_networks() as (address, inside, env):
        for logs, second in (("nodes-shared", ()), ("nodes-own", (*inside, *hidden))):
            by = (*TORCHRUN, "--nnodes", "2", "--nproc_per_node", "1")
            by += ("--master_addr", address if inside else "127.0.0.1")
            by += ("--master_port", str(free_port()), "--node_rank")
            nodes = [
                start(
                    *("validate", "-c", "tiny.yaml", "--run.save_dir", logs),
                    by=(*by, str(rank), "-m", "harness"),
                    first=second if rank else (),
                    **(env[rank] if second else {}),
                )
                for rank in (0, 1)
            ]
            said = [process.communicate(timeout=400)[0] for process in nodes]
            assert [process.returncode for process in nodes] == [0, 0], said
            assert differences(alone, place / logs / "mine/version_0") == []
            assert "report  " in said[0]
            assert "report  " not in said[1]


def test_what_was_killed_goes_on_with_any_number_of_processes(
    place: Path, start: Start, alone: Path
) -> None:
    folder, drawn = place / "killed/mine/version_0", random.Random()
    whole = sum(path.stat().st_size for path in (alone / "journal").glob("*.steps"))
    attempts = (
        ("-c", "tiny.yaml", "--run.save_dir", "killed", "--trainer.devices", 2),
        ("--resume", folder, "--trainer.devices", 1),
    )
    for attempt, given in enumerate(attempts, 1):
        process = start("validate", *given)
        enough = drawn.uniform(0.1, 0.6) * whole
        until = time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            files = (folder / "journal").glob(f"{attempt}-*.steps")
            if sum(path.stat().st_size for path in files) > enough:
                break
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (folder / "results.json").exists()
        assert (folder / "status").read_text() == "running\n"
    # The end of one file is cut off, that of another is damaged.
    first, *_, last = sorted((folder / "journal").glob("*.steps"))
    first.write_bytes(first.read_bytes()[:-7])
    damaged = bytearray(last.read_bytes())
    damaged[-20] ^= 255
    last.write_bytes(bytes(damaged))
    status, said = resume(start, folder, "--trainer.devices", 3)
    assert status == 0, said
    assert differences(alone, folder) == []
    assert (folder / "status").read_text() == "complete\n"


def test_a_longer_run_measures_only_what_is_new(place: Path, start: Start, run: Callable) -> None:
    more = ("--model.variants.zeroed.controls", 3, "--data.max_documents", 13)
    status, said, folder = run("short", "--data.max_documents", 11)
    assert status == 0, said
    status, said = resume(start, folder, *more)
    assert status == 0, said
    assert "measurements, each of a model on a batch, are of earlier attempts" in said
    _, _, whole = run("longer", *more)
    assert differences(whole, folder) == []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_ends_all(
    place: Path, start: Start, run: Callable[..., Ended], alone: Path, rank: int
) -> None:
    how = [TROUBLE, "tests.cli.trouble.Trouble", f"{TROUBLE}.how", "SIGTERM"]
    how += [f"{TROUBLE}.rank", str(rank), f"{TROUBLE}.step", "3"]
    status, said, folder = run(f"signal-{rank}", *how, "--trainer.devices", 2)
    assert status == 143
    assert "\ninterrupted: what was measured so far lies in" in said
    assert (folder / "status").read_text() == "interrupted\n"
    assert json.loads((folder / "results.json").read_text())["run"]["partial"] is True
    status, said = resume(start, folder, f"{TROUBLE}.step", 999)
    assert status == 0, said
    assert (folder / "documents.parquet").read_bytes() == (alone / "documents.parquet").read_bytes()


@pytest.mark.parametrize(
    ("how", "rank", "says"),
    [
        ("raise", 1, "stopped: process 1: RuntimeError: the cable was pulled"),
        ("raise", 0, "RuntimeError: the cable was pulled"),
        ("kill", 1, "stopped: process 1 of this run has ended, or hangs"),
        ("hang", 1, "stopped: process 1 of this run has ended, or hangs"),
    ],
)
def test_one_that_fails_ends_all(
    place: Path, run: Callable[..., Ended], how: str, rank: int, says: str
) -> None:
    given = [TROUBLE, "tests.cli.trouble.Trouble", f"{TROUBLE}.how", how]
    given += [f"{TROUBLE}.rank", str(rank), f"{TROUBLE}.step", "3"]
    logs = f"{how}-{rank}"
    status, said, folder = run(logs, *given, "--trainer.devices", 2)
    assert status == 1
    assert says in said
    assert (folder / "status").read_text() == "interrupted\n"
    left = subprocess.run(["pgrep", "-f", f"save_dir {logs}"], capture_output=True, text=True)
    assert left.stdout == ""


@pytest.mark.parametrize(
    ("rank", "alone", "says"),
    [
        (1, ("--data.dataset", "empty.txt"), "refused: process 1: data.dataset="),
        (0, ("--run.save_dir", "empty.txt/logs"), "refused: run.save_dir='empty.txt/logs': "),
    ],
)
def test_what_one_node_alone_refuses_ends_all(
    place: Path, start: Start, rank: int, alone: tuple[str, ...], says: str
) -> None:
    (place / "empty.txt").touch()
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    given = ("validate", "-c", "tiny.yaml", "--run.save_dir", "refused", "--trainer.num_nodes", 2)
    nodes = [start(*given, *(alone if n == rank else ()), NODE_RANK=n, **where) for n in (0, 1)]
    said = [process.communicate(timeout=400)[0] for process in nodes]
    assert says in said[0]
    assert ([process.returncode for process in nodes], said[1]) == ([2, 0], "")
    assert not (place / "refused").exists()


def test_a_signal_ends_one_that_waits_for_another_to_join(place: Path, start: Start) -> None:
    port = free_port()
    where = {"NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    waiting = start("validate", "-c", "tiny.yaml", "--trainer.num_nodes", 2, **where)
    for _ in range(200):  # until it listens
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.5)
    waiting.terminate()
    said = waiting.communicate(timeout=60)[0]
    assert (waiting.returncode, said) == (143, "interrupted: before anything was measured\n")


def test_memory_that_runs_out_halves_the_batch(run: Callable[..., Ended], alone: Path) -> None:
    given = [TROUBLE, "tests.cli.trouble.Trouble", f"{TROUBLE}.how", "memory"]
    status, said, folder = run("memory", *given, f"{TROUBLE}.rank", 1, "--trainer.devices", 2)
    assert status == 0, said
    assert "note: process 1: memory ran out, so batches of " in said
    documents = "documents.parquet"
    assert (folder / documents).read_bytes() == (alone / documents).read_bytes()


def test_runs_at_once_get_folders_of_their_own(place: Path, start: Start) -> None:
    given = ("validate", "-c", "tiny.yaml", "--run.save_dir", "five", "--data.max_documents", 1)
    runs = [start(*given) for _ in range(3)]
    assert [process.wait(400) for process in runs] == [0, 0, 0]
    assert len(list((place / "five/mine").glob("version_*/results.json"))) == 3


def test_two_processes_train_as_one_of_their_global_batch(
    place: Path, run: Callable[..., Ended]
) -> None:
    (place / "text.txt").write_text("the same few words again and again, " * 120)
    architecture = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 16}
    architecture |= {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 260}
    tree = {
        "model": {
            "tokenizer": "tiny",
            "architecture": architecture | {"max_position_embeddings": 32},
            "training": {"learning_rate": 1e-2, "warmup_steps": 2},
        },
        "data": {"dataset": "text.txt"},
        "run": {"name": "mine"},
        "trainer": {"max_steps": 8, "val_check_interval": 4, "log_every_n_steps": 1},
    }
    tree["trainer"] |= {"check_val_every_n_epoch": None, "accelerator": "cpu"}
    (place / "fit.yaml").write_text(yaml.safe_dump(tree))
    ended = [
        run(
            f"fit-{n}",
            *("-c", "fit.yaml", "--data.batch_size", 8 // n, "--trainer.devices", n),
            command="fit",
            config=(),
        )
        for n in (1, 2)
    ]
    assert [status for status, *_ in ended] == [0, 0], ended[1][1]
    one, two = (scalars(folder) for *_, folder in ended)
    assert one.keys() == two.keys()
    for (tag, step), value in one.items():
        if tag.startswith("likelihood/"):
            assert two[tag, step] == pytest.approx(value, rel=1e-4), (tag, step)
    # What is told of the validation is that of the weights that were saved.
    last = two["likelihood/nll", max(step for tag, step in two if tag == "likelihood/nll")]
    saved = ended[1][2] / "checkpoints/last"
    given = ("--model.pretrained", saved, "--data.dataset", "text.txt", "--run.name", "mine")
    given += ("--model.generation", "null", "--trainer.accelerator", "cpu")
    status, said, folder = run("fitted", *given, config=())
    assert status == 0, said
    found = json.loads((folder / "results.json").read_text())["variants"]["original"]
    assert found["likelihood"]["nll"] == pytest.approx(last, rel=1e-6)


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """What a training has logged, by tag and step."""
    return {
        (tag, step): Summary.Value.FromString(value).simple_value
        for step, tag, value in events(folder / "original")
    }
