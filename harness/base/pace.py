"""How long a step takes, and so for how long one that takes longer may still be at work."""

from __future__ import annotations

import time
from datetime import timedelta

from harness.base.processes import LONGEST

# Processes have equal shares of the work; what is slow must not be taken for what hangs.
_LEAST = timedelta(seconds=45)
_TIMES = 20


class Pace:
    """The longest steps so far, by kind, in which something was measured."""

    def __init__(self) -> None:
        self._longest: dict[str, timedelta] = {}
        self.begin()

    def begin(self) -> None:
        """Begins a step."""
        self._began = time.monotonic()

    def taken(self) -> timedelta:
        """How long the step has taken so far."""
        return timedelta(seconds=time.monotonic() - self._began)

    def count(self, kind: str, taken: timedelta) -> None:
        """Counts a step.

        Args:
            kind: What kind of step it is.
            taken: How long it has taken, in whichever process.
        """
        self._longest[kind] = max(self._longest.get(kind, taken), taken)

    def limit(self, kind: str) -> timedelta:
        """How long to wait for the others, now that the step is done here.

        Args:
            kind: What kind of step it is.
        """
        if kind not in self._longest:
            return LONGEST
        return max(_LEAST, _TIMES * self._longest[kind])
