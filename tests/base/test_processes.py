"""Three processes that meet, each of which checks what it hears."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from harness.base.processes import EndedElsewhere, LostError, Processes
from harness.errors import ConfigError

COUNT = 3
SHORT = timedelta(seconds=2)


def refuse(rank: int, refusing: set[int]) -> str:
    if rank in refusing:
        raise ConfigError("key", rank, "is not accepted")
    return "accepted"


def as_one_of_three(rank: int, store: str) -> None:
    """What each of the processes does."""
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=COUNT)
    processes = Processes.joined()
    assert Processes.joined() is processes
    assert (processes.rank, processes.count, processes.is_first) == (rank, COUNT, rank == 0)
    assert processes.meet("x" * (rank * 1000)) == ["", "x" * 1000, "x" * 2000]
    assert processes.share(f"of {rank}") == "of 0"
    sent = processes.send([1, 2], bytes([rank]) * (3 * rank))
    assert sent == ({1: b"\1" * 3, 2: b"\2" * 6} if rank == 0 else {})

    assert processes.accept(lambda: refuse(rank, set())) == "accepted"
    # The first says what it refuses itself, the others that it did.
    with pytest.raises(ConfigError if rank == 0 else EndedElsewhere, match="key=0") as caught:
        processes.accept(lambda: refuse(rank, {0, 1, 2}))
    with pytest.raises(EndedElsewhere, match="process 2: key=2: is not accepted"):
        processes.accept(lambda: refuse(rank, {2}))
    assert rank == 0 or getattr(caught.value, "status", None) == 2

    if rank == 1:
        assert processes.fail("it broke", 1)
    else:
        with pytest.raises(EndedElsewhere, match="process 1: it broke"):
            processes.meet(None)
    if rank == 2:  # hangs until the others are gone
        sys.stdin.read()
        return
    with pytest.raises(LostError, match=r"process .*2 of this run has ended, or hangs"):
        processes.meet(None, SHORT)
    # Those that leave must not take the store along before all have asked it.
    processes._store.set(f"done-{rank}", "")
    processes._store.wait([f"done-{1 - rank}"])


def test_processes_meet(tmp_path: Path) -> None:
    code = "import sys; from tests.base.test_processes import as_one_of_three\n"
    code += "as_one_of_three(int(sys.argv[1]), sys.argv[2])"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(rank), f"file://{tmp_path / 'store'}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
            text=True,
        )
        for rank in range(COUNT)
    ]
    said = [process.communicate(timeout=100)[0] for process in started[:2]]
    said.append(started[2].communicate(timeout=100)[0])
    assert [process.returncode for process in started] == [0, 0, 0], said


def test_one_process_meets_nobody() -> None:
    alone = Processes()
    assert alone.meet("word") == ["word"]
    assert alone.share(5) == 5
    assert alone.send([], b"data") == {}
    assert alone.fail("on fire", 1)
    assert alone.accept(lambda: refuse(0, set())) == "accepted"
    with pytest.raises(ConfigError):
        alone.accept(lambda: refuse(0, {0}))
