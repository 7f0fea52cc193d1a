"""Signals that end a run: when a batch is done, or at once where no batch would be lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from harness.base.console import INTERRUPTED, interrupted, note

# Seconds that Python has to hear of a signal.
_PATIENCE = 3
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


def hear(end: Callable[[], None]) -> None:
    """Has a signal end the program, from now on, also while Python cannot hear it.

    Processes that join wait in C++ for each other, and for one that the same signal has ended they
    would wait for half an hour.

    Args:
        end: What is done before the program ends, in a thread.
    """
    if not _Listening.begun:
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(heard, end), daemon=True).start()


def stop_hearing() -> None:
    """Leaves signals to Python, where the program waits for nobody."""
    if _Listening.begun:
        signal.set_wakeup_fd(-1)


def _hear(heard: int, end: Callable[[], None]) -> None:
    os.read(heard, 1)
    time.sleep(_PATIENCE)
    if not _Listening.wanted:
        end()
        os._exit(interrupted())


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
