"""Moments of many places as one array, in which those of many batches are added up at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.probes.moments import Moments
from harness.probes.observation import Where

_NAMES = [f.name for f in fields(Moments)]
_NUMBERS = attrgetter(*_NAMES)
_WHOLE = [type(getattr(Moments(), name)) is int for name in _NAMES]
_LARGEST = _NAMES.index("max_abs")

COLUMNS = len(_NAMES)
"""Numbers of each place, in the order of the fields of `Moments`."""


class Flow(Mapping[Where, Moments]):
    """What flowed through one model: moments by where they were seen. It never changes.

    Args:
        places: Where they were seen, each once.
        numbers: The moments of each place, fp64 [places, `COLUMNS`], in which counts are exact up
            to 2^53.
    """

    def __init__(self, places: tuple[Where, ...] = (), numbers: NDArray[Any] | None = None) -> None:
        self.places = places
        self.numbers = np.zeros((0, COLUMNS)) if numbers is None else numbers

    @classmethod
    def of(cls, moments: Mapping[Where, Moments]) -> Flow:
        """The same moments in an array."""
        if isinstance(moments, Flow):
            return moments
        numbers = np.array([_NUMBERS(each) for each in moments.values()], np.float64)
        return cls(tuple(moments), numbers.reshape(-1, COLUMNS))

    def __add__(self, other: Flow) -> Flow:
        """The moments of the values of both, to the last bit what `Moments` add up to."""
        if not self.places or not other.places:
            return self if self.places else other
        if self.places is other.places or self.places == other.places:
            return Flow(self.places, _sum(self.numbers, other.numbers))
        rows = {where: row for row, where in enumerate(self.places)}
        into = [rows.setdefault(where, len(rows)) for where in other.places]
        known = np.array(into) < len(self.places)
        numbers = np.empty((len(rows), COLUMNS))
        numbers[: len(self.places)] = self.numbers
        numbers[into] = other.numbers
        both = np.array(into)[known]
        numbers[both] = _sum(self.numbers[both], other.numbers[known])
        return Flow(tuple(rows), numbers)

    def __getitem__(self, where: Where) -> Moments:
        """The moments of a place."""
        return self._by_place[where]

    def __iter__(self) -> Iterator[Where]:
        """The places."""
        return iter(self.places)

    def __len__(self) -> int:
        """How many places there are."""
        return len(self.places)

    @cached_property
    def _by_place(self) -> dict[Where, Moments]:
        columns = (
            (column.astype(np.int64) if whole else column).tolist()
            for column, whole in zip(self.numbers.T, _WHOLE, strict=True)
        )
        return dict(zip(self.places, map(Moments, *columns), strict=True))


def _sum(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        total: NDArray[Any] = one + other
    np.maximum(one[:, _LARGEST], other[:, _LARGEST], out=total[:, _LARGEST])  # NaN if either is
    return total
