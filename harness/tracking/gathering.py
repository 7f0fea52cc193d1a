"""The steps of all processes, brought together in the first, in the order of the plan."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from harness.base.processes import Processes
from harness.evaluation.measurement import Measurement
from harness.evaluation.step import StepResult


class Gathering:
    """Follows the files of the other processes, or asks for them where they cannot be seen.

    Args:
        measurement: What is measured here.
        processes: Those that take part.
        file: Where a process, by its rank, keeps its steps; with another suffix, where its steps
            are kept that it has sent.
    """

    def __init__(
        self, measurement: Measurement, processes: Processes, file: Callable[..., Path]
    ) -> None:
        self._measurement = measurement
        self._processes = processes
        self._file = file
        self._others = {rank: file(rank) for rank in range(1, processes.count)}
        processes.meet(None)  # each has begun its file
        # Steps of processes whose files cannot be seen from here are handed on at the end.
        self._is_live = processes.is_first and all(path.exists() for path in self._others.values())
        self._due: deque[int] = deque()
        self._told = -1

    def arrived(self, numbers: Iterable[int], own: StepResult) -> Iterator[StepResult]:
        """Yields the steps that can be seen and follow those that were yielded before.

        Args:
            numbers: The steps that are done now.
            own: The one that was done here.
        """
        if not self._is_live:
            return
        # Processes that divide a model among them have the same steps.
        self._due += sorted({number for number in numbers if number >= 0})
        for path in self._others.values():
            self._measurement.follow(path)
        while self._due and self._due[0] in self._measurement:
            self._told = self._due.popleft()
            yield own if self._told == own.number else self._measurement[self._told]

    def rest(self) -> Iterator[StepResult]:
        """Brings together what is left; each process has to call this, and the first gets it."""
        counts = self._processes.meet(len(self._measurement.own))
        missing: list[int] = []
        if self._processes.is_first:
            seen = {rank: self._measurement.follow(path) for rank, path in self._others.items()}
            missing = [rank for rank, count in seen.items() if count < counts[rank]]
        missing = self._processes.share(missing)
        sent = self._processes.send(missing, self._measurement.own.whole() if missing else b"")
        for rank, data in sent.items():
            path = self._file(rank, "sent.steps")
            path.write_bytes(data)
            self._measurement.follow(path)
        if self._processes.is_first:
            for number in self._measurement.numbers():
                if number > self._told:
                    self._told = number
                    yield self._measurement[number]
