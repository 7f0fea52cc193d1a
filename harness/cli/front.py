"""The front of the command line: whatever can be said without the heavy libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from harness import __version__
from harness.base.console import be_silent, quiet, refused, stopped
from harness.cli.faults import told
from harness.cli.given import check_given, spelt, values_given
from harness.cli.keys import nearest
from harness.cli.launch import Launch, forget, keep_threads, launched, settled
from harness.cli.page import COMMANDS, PAGE
from harness.cli.resume import resumed
from harness.errors import ConfigError


def main() -> int:
    """Runs the command line of this process.

    Returns:
        Exit status: 0 when done, 2 for input that is refused, 1 where memory or disk ran out.

    Raises:
        SystemExit: With status 143 when a signal ends the run.
    """
    argv = sys.argv[1:]
    found = launched(os.environ)
    launch = settled(found, ())  # until it is known what was asked for
    be_silent(launch.rank > 0)  # the first process speaks for all
    if not argv or argv[0] in ("-h", "--help"):
        print(PAGE, end="")
        return 0
    if argv[0] == "--version":
        print(f"outlier-harness {__version__}")
        return 0
    try:
        _check_command(argv)
        argv = resumed(argv)
        given = list(values_given(argv[1:]))
        launch = settled(found, given)
        be_silent(launch.rank > 0)
        check_given(given)
        if not launch.by:
            forget()
        keep_threads(launch)
        run = _start()
        quiet()
        return run(spelt(argv), given, launch)
    except ConfigError as error:
        be_silent(launch.place > 0)  # of another node the first knows nothing yet
        return refused(str(error))
    except Exception as error:
        line = told(error, None)
        if line is None:
            raise
        return stopped(line)


def _start() -> Callable[[Sequence[str], Sequence[tuple[str, Any]], Launch], int]:
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
