"""What a run of the command line takes, seen from outside: time by stage, and memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

STAGES = ("start", "loading", "scoring", "results")
"""Importing, reading text; the model and its outliers; every batch; intervals, files, the end."""

# How a stage begins on stderr.
_BEGINNINGS = {"loading ": "loading", "scoring": "scoring", "intervals ": "results"}
_OFTEN_SECONDS = 0.4
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Taken:
    """What a run took.

    Attributes:
        processes: How many it had.
        clock: Seconds from the first to the last.
        cpu: Seconds of all its processes, by stage.
        memory: Bytes: of each of its processes the most that it had in memory, added up.
    """

    processes: int
    clock: float = 0.0
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    memory: float = 0.0

    def seconds(self, stage: str | None = None) -> float:
        """Seconds of CPU of each process, which have equal shares of the work.

        Args:
            stage: In which stage; None for the whole run.
        """
        taken = sum(self.cpu.values()) if stage is None else self.cpu[stage]
        return taken / self.processes


class _Group:
    """The processes of a process group, also those that have ended."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._cpu: dict[str, float] = {}
        self._memory: dict[str, float] = {}
        self._reading = threading.Lock()

    def read(self) -> tuple[float, float]:
        """CPU seconds and peak memory in bytes so far, of all of them."""
        with self._reading:
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    # The name stands in brackets, and may hold anything.
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[2]) != self._number:
                        continue
                    self._cpu[folder.name] = (int(fields[11]) + int(fields[12])) / _TICKS
                    peak = re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())
                except OSError:  # it has just ended
                    continue
                if peak is not None:
                    self._memory[folder.name] = int(peak[1]) * 1024
            return sum(self._cpu.values()), sum(self._memory.values())


def watch(command: Sequence[str], processes: int, env: dict[str, str]) -> Taken:
    """Runs a command to its end.

    Args:
        command: A run of the harness.
        processes: How many it starts.
        env: Its environment.

    Raises:
        SystemExit: If it fails; what it said is printed.
    """
    began, taken, stage, before = time.monotonic(), Taken(processes), STAGES[0], 0.0
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    group, ended, said = _Group(process.pid), threading.Event(), ""

    def look() -> None:
        while not ended.wait(_OFTEN_SECONDS):
            group.read()

    def close(following: str) -> None:
        nonlocal stage, before
        cpu = group.read()[0]
        taken.cpu[stage] += cpu - before
        stage, before = following, cpu

    watching = threading.Thread(target=look)
    watching.start()
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            found = [name for words, name in _BEGINNINGS.items() if line.startswith(words)]
            if found and found[0] != stage:
                close(found[0])
        status = process.wait()
        close("")
    finally:
        ended.set()
        watching.join()
    if status:
        sys.exit(f"{' '.join(command)}\n{said}")
    taken.clock = time.monotonic() - began
    taken.memory = group.read()[1]
    return taken
