"""What one batch gave, as a value: it can be added up, written and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.probes import Flow, Moments, Site, Where
from harness.probes.flow import COLUMNS
from harness.probes.observation import Phase
from harness.probes.positions import Part
from harness.results.schema import ORIGINAL
from harness.scoring import LogHistogram, Tally
from harness.scoring.rows import ROW
from harness.writing.generate import Continuation

_HEADER = {"number", "key", "outcomes"}
_WHOLE, _REAL = np.dtype("<i8"), np.dtype("<f8")


@dataclass
class Outcome:
    """What was measured of one model: the original, a variant, or a control.

    Attributes:
        tally: Rows of windows and a histogram of the divergence; empty after prompts.
        texts: Continuations by number of the prompt.
        moments: What flowed through the model, by site, phase and part; empty where nothing was
            observed.
        unplaced: Sites and phases whose output had no place in the text.
        notes: What a reader should know, one sentence each.
    """

    tally: Tally = field(default_factory=Tally)
    texts: dict[int, Continuation] = field(default_factory=dict)
    moments: Mapping[Where, Moments] = field(default_factory=dict)
    unplaced: set[tuple[str, Phase]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def is_finite(self) -> bool:
        """Whether all likelihoods are finite, and no text failed for want of finite logits."""
        return self.tally.is_finite and not any(text.broken for text in self.texts.values())

    def add(self, other: Outcome) -> None:
        """Adds what another batch gave of the same model."""
        self.tally.merge(other.tally)
        self.texts |= other.texts
        self.moments = Flow.of(self.moments) + Flow.of(other.moments)
        self.unplaced |= other.unplaced
        self.notes += other.notes


Outcomes = Mapping[str, Outcome]
Later = Callable[[], Outcomes]


class StepResult:
    """All that one batch gave, by model.

    Args:
        number: Place of the batch in the plan, windows before prompts; below 0 for one that was run
            for the sake of other processes and counts for nothing.
        outcomes: By name of the model, the original's first; or what waits for them and gives them.
        key: What is the same for steps of the same batch in the same setting.
        recalled: How many of the outcomes were measured before; this is no part of the value.
    """

    # No dataclass: Lightning takes those apart, to move what a step returns from device to device.
    def __init__(
        self, number: int, outcomes: Outcomes | Later, key: str = "", recalled: int = 0
    ) -> None:
        self.number = number
        self._outcomes = outcomes
        self.key = key
        self.recalled = recalled

    @property
    def is_there(self) -> bool:
        """Whether the outcomes are there, and no device is to be waited for."""
        return not callable(self._outcomes)

    @property
    def outcomes(self) -> Outcomes:
        """What was measured, by name of the model, the original's first."""
        if callable(self._outcomes):
            self._outcomes = self._outcomes()
        return self._outcomes

    @property
    def original(self) -> Outcome:
        """What was measured of the original."""
        return self.outcomes[ORIGINAL]

    @property
    def is_scored(self) -> bool:
        """Whether windows were scored; else prompts were continued."""
        return bool(len(self.original.tally.rows))

    def to_bytes(self) -> bytes:
        """The result as bytes: two lines of JSON, then rows, histograms and moments in binary."""
        places: dict[tuple[Where, ...], int] = {}
        parts: list[bytes] = []
        header = {
            "number": self.number,
            "key": self.key,
            "outcomes": {n: _told(o, places, parts) for n, o in self.outcomes.items()},
        }
        named = [[(s.name, s.kind, s.layer, *rest) for s, *rest in some] for some in places]
        lines = (json.dumps(line).encode() + b"\n" for line in (header, named))
        return b"".join((*lines, *parts))

    @classmethod
    def from_bytes(cls, data: bytes) -> StepResult:
        """The result that `to_bytes` has written, the same to the last bit.

        Raises:
            ValueError: If `to_bytes` has not written that.
        """
        try:
            line, named, rest = data.split(b"\n", 2)
            header, places = json.loads(line), _places(named)
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.keys() != _HEADER:
            raise ValueError("these bytes are no step")
        outcomes, numbers = header["outcomes"], _Numbers(rest)
        found = {name: _read(told, places, numbers) for name, told in outcomes.items()}
        numbers.end()
        return cls(header["number"], found, header["key"])


class _Numbers:
    """Reads arrays that lie one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def next(self, count: int, kind: Any) -> NDArray[Any]:
        """The next so many of a kind."""
        start = self._place
        self._place += count * kind.itemsize
        if self._place > len(self._data):
            raise ValueError(f"a step of at least {self._place} bytes of numbers has too few")
        return np.frombuffer(self._data, kind, count, start)

    def end(self) -> None:
        """Checks that there are no more."""
        if self._place != len(self._data):
            raise ValueError(f"a step of {self._place} bytes of numbers has {len(self._data)}")


def _told(
    outcome: Outcome, places: dict[tuple[Where, ...], int], parts: list[bytes]
) -> dict[str, Any]:
    """What JSON holds of an outcome; the rest is added to the parts, as `_read` expects them."""
    kl, flow = outcome.tally.kl.state(), Flow.of(outcome.moments)
    parts += [
        outcome.tally.rows.tobytes(),
        np.array([kl["bins"], kl["counts"]], _WHOLE).tobytes(),
        flow.numbers.astype(_REAL, copy=False).tobytes(),
    ]
    return {
        "rows": len(outcome.tally.rows),
        "bins": len(kl["bins"]),
        "nonfinite": kl["nonfinite"],
        "maximum": kl["maximum"],
        "texts": list(outcome.texts.items()),
        "places": places.setdefault(flow.places, len(places)),
        "unplaced": sorted(outcome.unplaced),
        "notes": outcome.notes,
    }


def _read(
    told: Mapping[str, Any], places: Sequence[tuple[Where, ...]], numbers: _Numbers
) -> Outcome:
    rows = numbers.next(told["rows"], ROW)
    bins, counts = numbers.next(2 * told["bins"], _WHOLE).reshape(2, -1)
    where = places[told["places"]]
    moments = numbers.next(COLUMNS * len(where), _REAL).reshape(-1, COLUMNS)
    kl = {"nonfinite": told["nonfinite"], "maximum": told["maximum"]}
    return Outcome(
        tally=Tally(rows, LogHistogram.from_state({"bins": bins, "counts": counts, **kl})),
        texts={n: Continuation(tuple(ids), *rest) for n, (ids, *rest) in told["texts"]},
        moments=Flow(where, moments),
        unplaced={(site, phase) for site, phase in told["unplaced"]},
        notes=told["notes"],
    )


@lru_cache(maxsize=64)
def _places(line: bytes) -> list[tuple[Where, ...]]:
    # The same objects in all steps that have the same: moments are then added without comparing.
    return [tuple(_where(*place) for place in some) for some in json.loads(line)]


@cache
def _where(name: str, kind: str, layer: int | None, phase: Phase, part: Part) -> Where:
    # The same object in all places: what has others beside it is then found without comparing.
    return Where(Site(name, kind, layer), phase, part)
