"""Gives the first process time to say why a process that it has started has ended."""

from __future__ import annotations

import os
import time
from subprocess import Popen
from typing import Any

from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.strategies.launchers import subprocess_script

from harness.base.console import stopped

_SECONDS = 60


class _Patient(_ChildProcessObserver):
    """Lightning's own, which would end all within seconds, results half written and no word said.

    The first process learns by itself of one that has failed, where processes meet; only where it
    hangs elsewhere it has to be ended from outside.
    """

    def _terminate_all(self) -> None:
        time.sleep(_SECONDS)
        ended = next(child.returncode for child in self._child_processes if child.returncode)
        for child in self._child_processes:
            child.kill()
        reason = f"with status {ended}, and this one does not get on without it"
        os._exit(stopped(f"another process of this run has ended {reason}"))


def observe_patiently() -> None:
    """Has Lightning's launcher observe its processes so from now on."""

    def launch(child_processes: list[Popen[bytes]]) -> None:
        _Patient(main_pid=os.getpid(), child_processes=child_processes).start()

    launchers: Any = subprocess_script
    launchers._launch_process_observer = launch
