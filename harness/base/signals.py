"""Signals that end a run: when a batch is done, or at once where no batch would be lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from harness.base.console import INTERRUPTED, note

_ENDING = [getattr(signal, n) for n in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, n)]


class Interrupted(SystemExit):
    """A signal ends the run.

    Attributes:
        agreed: Whether all processes of the run end at the same place.
    """

    def __init__(self, *, agreed: bool = False) -> None:
        super().__init__(INTERRUPTED)
        self.agreed = agreed


class _Listening:
    """What the handler knows: a process has one set of signals.

    Attributes:
        begun: Whether signals are listened to.
        held: Whether the first signal waits for the end of a batch.
        wanted: Whether a signal has come.
    """

    begun = False
    held = False
    wanted = False


def listen() -> None:
    """Has the signals that end a program raise `Interrupted`, in the main thread, from now on."""
    _Listening.begun = True
    _Listening.wanted = False
    reclaim()


def reclaim() -> None:
    """Takes the signals back that a library has taken since `listen`; without it does nothing."""
    if not _Listening.begun or threading.current_thread() is not threading.main_thread():
        return
    for each in _ENDING:
        # What a program was told to ignore, as by nohup, it goes on to ignore.
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _end)


def hold(held: bool) -> None:
    """Has the first signal wait until `is_wanted` is asked, or lets it end the run at once.

    Args:
        held: Whether it waits.
    """
    _Listening.held = held


def is_wanted() -> bool:
    """Whether a signal has come."""
    return _Listening.wanted


def _end(signum: int, frame: FrameType | None) -> None:
    first, _Listening.wanted = not _Listening.wanted, True
    if not (first and _Listening.held):
        raise Interrupted
    note("ending when this batch is done, so that it counts; once more ends at once")
