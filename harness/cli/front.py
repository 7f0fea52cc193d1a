"""The front of the command line: whatever can be said without the heavy libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from harness import __version__
from harness.base.console import quiet, refused, stopped
from harness.cli.faults import told
from harness.cli.given import check_given, spelt, values_given
from harness.cli.keys import nearest
from harness.cli.page import COMMANDS, PAGE
from harness.errors import ConfigError

# What the launchers of several processes tell each of them.
_COUNTS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def main() -> int:
    """Runs the command line of this process.

    Returns:
        Exit status: 0 when done, 2 for input that is refused, 1 where memory or disk ran out.

    Raises:
        SystemExit: With status 130 or 143 when a signal ends the run.
    """
    argv = sys.argv[1:]
    if not argv or argv[0] in ("-h", "--help"):
        print(PAGE, end="")
        return 0
    if argv[0] == "--version":
        print(f"outlier-harness {__version__}")
        return 0
    try:
        _check_command(argv)
        given = list(values_given(argv[1:]))
        check_given(given)
        _check_processes()
        run = _start()
        quiet()
        return run(spelt(argv), given)
    except ConfigError as error:
        return refused(str(error))
    except Exception as error:
        line = told(error, None)
        if line is None:
            raise
        return stopped(line)


def _start() -> Callable[[Sequence[str], Sequence[tuple[str, Any]]], int]:
    """Imports the commands, which takes seconds, and says so to who waits at a terminal."""
    from harness.base.stages import stage

    with stage("starting") if sys.stderr.isatty() else nullcontext():
        from harness.cli.commands import run
    return run


def _check_command(argv: Sequence[str]) -> None:
    word = argv[0]
    if word in COMMANDS:
        return
    if word.startswith("-"):
        reason = "belongs after the command: python -m harness validate "
        reason += " ".join(argv[:2]) if "=" not in word else word
        raise ConfigError("argument", word, reason)
    near = nearest(word, {name: name for name in COMMANDS})
    raise ConfigError("command", word, f"must be one of {', '.join(COMMANDS)}{near}")


def _check_processes() -> None:
    """Refuses to be one of several processes, and forgets the place of one that is alone.

    Lightning, once it is imported, would keep silent in any process but the first.
    """
    for name in _COUNTS:
        count = os.environ.get(name, "")
        if count.isdigit() and int(count) > 1:
            reason = "results are exact for one process alone; start one, or unset this where it is"
            raise ConfigError(name, count, f"{reason} a single one")
    for name in _RANKS:
        os.environ.pop(name, None)
