"""The meetings of a run's processes after each step, and how long they wait for each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from harness.base import signals
from harness.base.console import note_of, unsaid
from harness.base.pace import Pace
from harness.base.processes import Processes


@dataclass(frozen=True)
class Said:
    """What a process says when a step is done.

    Attributes:
        number: Which step it was.
        ends: Whether a signal asks it to end.
        kind: What kind of step it was.
        taken: How long it has taken; None where nothing of the plan was measured.
        recalled: How many models were measured before on that batch.
        models: How many it is of.
        notes: What a user should know.
    """

    number: int
    ends: bool
    kind: str
    taken: timedelta | None
    recalled: int
    models: int
    notes: Sequence[str]


class Meetings:
    """The meetings of one measurement, or of one training.

    Args:
        processes: Those that meet.

    Attributes:
        recalled: How many measurements, each of a model on a batch, were known before.
        models: How many there were in all.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._pace = Pace(processes.count)
        self.recalled = self.models = 0

    def meet(self, kind: str, number: int = -1, recalled: int = 0, models: int = 1) -> list[Said]:
        """Says that a step is done, and waits until it is everywhere.

        Args:
            kind: What kind of step it was: those of one kind take about as long.
            number: Which it was; -1 where it is of no plan.
            recalled: How many models were measured before on that batch.
            models: How many it is of.

        Returns:
            What each process says, by rank.

        Raises:
            LostError: If one of them has ended, or hangs.
            EndedElsewhere: If one of them has failed.
        """
        taken, here = self._pace.taken() if recalled < models else None, self._processes.rank
        if taken is not None:
            self._pace.count(kind, taken, here)
        own = Said(number, signals.is_wanted(), kind, taken, recalled, models, unsaid())
        said = self._processes.meet(own, self._pace.limit(kind))
        for rank, each in enumerate(said):
            self.recalled += each.recalled
            self.models += each.models
            if each.taken is not None and rank != here:
                self._pace.count(each.kind, each.taken, rank)
            if self._processes.is_first:
                note_of(rank, each.notes)
        self._pace.begin()
        return said


def end_if_asked(said: Sequence[Said]) -> None:
    """Ends the run in every process where a signal asks one of them to.

    Args:
        said: What all of them have said.

    Raises:
        Interrupted: If a signal asks any of them to end.
    """
    if any(each.ends for each in said):
        raise signals.Interrupted(agreed=True)
