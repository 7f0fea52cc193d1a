"""What a run is doing, said on stderr one stage at a time: a bar, or a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from harness.base.console import speaks

SILENCE_SECONDS = 30.0
"""Where stderr is no terminal, a stage is heard of again after so many seconds."""

_SOON = 1.0


class Stage:
    """One stage, such as scoring; this one says nothing.

    Args:
        name: What is done.
        total: How much there is to do, in any unit; None where that is not known.
    """

    def __init__(self, name: str, total: float | None = None) -> None:
        self.name = name
        self.total = total

    def advance(self, amount: float) -> None:
        """Counts what was done.

        Args:
            amount: In the unit of the stage's total.
        """

    def say(self, text: str) -> None:
        """Gives a few words to be shown beside the name.

        Args:
            text: For example how many batches are done, and the figure so far.
        """

    def close(self) -> None:
        """Ends the stage."""


class _Bar(Stage):
    """A bar on a terminal, with the time that is left."""

    def __init__(self, name: str, total: float | None = None) -> None:
        super().__init__(name, total)
        bar = (BarColumn(bar_width=20), TaskProgressColumn()) if total else ()
        self._progress = Progress(
            TextColumn("{task.description}"),
            *bar,
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._began = time.monotonic()
        self._task = self._progress.add_task(name, total=total, said="", left="")
        self._progress.start()

    def advance(self, amount: float) -> None:
        self._progress.advance(self._task, amount)
        left = _left(self._done, time.monotonic() - self._began)
        self._progress.update(self._task, left=left)

    def say(self, text: str) -> None:
        self._progress.update(self._task, said=text)

    def close(self) -> None:
        self._progress.update(self._task, left="")
        self._progress.stop()

    @property
    def _done(self) -> float:
        return self._progress.tasks[self._task].percentage / 100


class _Lines(Stage):
    """Lines where there is no terminal: one at once, others when there was silence."""

    def __init__(self, name: str, total: float | None = None) -> None:
        super().__init__(name, total)
        self._amount = 0.0
        self._said = ""
        self._began = self._heard = time.monotonic()
        print(name, file=sys.stderr, flush=True)

    def advance(self, amount: float) -> None:
        self._amount += amount
        now = time.monotonic()
        if now - self._heard >= SILENCE_SECONDS:
            self._heard = now
            done = self._amount / self.total if self.total else 0.0
            self._print(_left(done, now - self._began))

    def say(self, text: str) -> None:
        self._said = text

    def close(self) -> None:
        taken = time.monotonic() - self._began
        if self._said and taken >= _SOON:
            self._print(f"{_clock(taken)} in all")

    def _print(self, clock: str) -> None:
        parts = (part for part in (self._said, clock) if part)
        print(f"{self.name}: {', '.join(parts)}", file=sys.stderr, flush=True)


_open: list[Stage] = []


@contextmanager
def stage(name: str, total: float | None = None) -> Iterator[Stage]:
    """Says that a stage begins, and how far it is for as long as the block lasts.

    Args:
        name: What is done, such as ``loading demo``.
        total: How much there is to do, in any unit; None where that is not known.
    """
    begun = begin(name, total)
    try:
        yield begun
    finally:
        end(begun)


def begin(name: str, total: float | None = None) -> Stage:
    """Begins a stage that does not end where a block does; within another one nothing is shown."""
    shown = _Bar if sys.stderr.isatty() else _Lines
    kind = shown if speaks() and not _open else Stage
    begun = kind(name, total)
    _open.append(begun)
    return begun


def end(begun: Stage) -> None:
    """Ends a stage."""
    _open.remove(begun)
    begun.close()


def current() -> Stage:
    """The stage that goes on, to be advanced by whoever does the work; a silent one if none."""
    return _open[0] if _open else Stage("")


def _left(done: float, seconds: float) -> str:
    """The time that is left where a share of the work took some seconds."""
    return f"{_clock(seconds * (1 - done) / done)} left" if 0 < done < 1 else ""


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
