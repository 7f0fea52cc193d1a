"""How long a step takes, and so for how long one that takes longer may still be at work."""

from __future__ import annotations

import time
from datetime import timedelta

from harness.base.processes import LONGEST

# Processes have equal shares of the work; what is slow must not be taken for what hangs.
_LEAST = timedelta(seconds=45)
_TIMES = 20


class Pace:
    """The longest steps so far, by kind, in which something was measured.

    The first of a kind takes longer in each process: loops are compiled, and memory is taken.

    Args:
        processes: How many processes there are.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._first: dict[str, dict[int, timedelta]] = {}
        self._longest: dict[str, timedelta] = {}
        self.begin()

    def begin(self) -> None:
        """Begins a step."""
        self._began = time.monotonic()

    def taken(self) -> timedelta:
        """How long the step has taken so far."""
        return timedelta(seconds=time.monotonic() - self._began)

    def count(self, kind: str, taken: timedelta, rank: int) -> None:
        """Counts a step.

        Args:
            kind: What kind of step it is.
            taken: How long it has taken.
            rank: In which process.
        """
        first = self._first.setdefault(kind, {})
        if rank not in first:
            first[rank] = taken
        else:
            self._longest[kind] = max(self._longest.get(kind, taken), taken)

    def limit(self, kind: str) -> timedelta:
        """How long to wait for the others, now that the step is done here.

        Args:
            kind: What kind of step it is.
        """
        first = self._first.get(kind, {})
        if not first:
            return LONGEST
        longest = max(first.values())
        if len(first) == self._processes and kind in self._longest:
            longest = self._longest[kind]
        return max(_LEAST, _TIMES * longest)
