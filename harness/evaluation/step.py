"""What one batch gave, as a value: it can be added up, written and read back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any

import numpy as np

from harness.probes import Moments, Site, Where
from harness.probes.observation import Phase
from harness.results.schema import ORIGINAL
from harness.scoring import LogHistogram, Tally, WindowRow
from harness.writing.generate import Continuation

_MOMENTS = [f.name for f in fields(Moments)]
_SUMS = attrgetter(*_MOMENTS)
_WHOLE = [type(getattr(Moments(), name)) is int for name in _MOMENTS]


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
    moments: dict[Where, Moments] = field(default_factory=dict)
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
        for where, moments in other.moments.items():
            known = self.moments.get(where)
            self.moments[where] = moments if known is None else known + moments
        self.unplaced |= other.unplaced
        self.notes += other.notes


class StepResult:
    """All that one batch gave, by model.

    Args:
        number: Place of the batch in the plan, windows before prompts; below 0 for one that was run
            for the sake of other processes and counts for nothing.
        outcomes: By name of the model, the original's first.
    """

    # No dataclass: Lightning takes those apart, to move what a step returns from device to device.
    def __init__(self, number: int, outcomes: Mapping[str, Outcome]) -> None:
        self.number = number
        self.outcomes = outcomes

    @property
    def original(self) -> Outcome:
        """What was measured of the original."""
        return self.outcomes[ORIGINAL]

    @property
    def is_scored(self) -> bool:
        """Whether windows were scored; else prompts were continued."""
        return bool(self.original.tally.rows)

    def to_bytes(self) -> bytes:
        """The result as bytes: a line of JSON, and the sums of all moments in fp64."""
        places = dict.fromkeys(w for outcome in self.outcomes.values() for w in outcome.moments)
        numbers = {where: number for number, where in enumerate(places)}
        header = {
            "number": self.number,
            "places": [
                (where.site.name, where.site.kind, where.site.layer, *where[1:]) for where in places
            ],
            "outcomes": {n: _told(outcome, numbers) for n, outcome in self.outcomes.items()},
        }
        sums = [_SUMS(m) for outcome in self.outcomes.values() for m in outcome.moments.values()]
        return json.dumps(header).encode() + b"\n" + np.array(sums, "<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> StepResult:
        """The result that `to_bytes` has written, the same to the last bit.

        Raises:
            ValueError: If `to_bytes` has not written that.
        """
        line, _, rest = data.partition(b"\n")
        try:
            header = json.loads(line)
        except ValueError:
            header = None
        if not isinstance(header, dict) or header.keys() != {"number", "places", "outcomes"}:
            raise ValueError("these bytes are no step")
        due = sum(len(told["places"]) for told in header["outcomes"].values())
        if len(rest) != 8 * due * len(_MOMENTS):
            raise ValueError(f"a step of {due} moments has {len(rest)} bytes of them")
        places = [Where(Site(*site), phase, part) for *site, phase, part in header["places"]]
        sums = iter(np.frombuffer(rest, "<f8").reshape(-1, len(_MOMENTS)).tolist())
        outcomes = header["outcomes"].items()
        return cls(header["number"], {name: _read(told, places, sums) for name, told in outcomes})


def _told(outcome: Outcome, numbers: Mapping[Where, int]) -> dict[str, Any]:
    return {
        "rows": outcome.tally.rows,
        "kl": outcome.tally.kl.state(),
        "texts": list(outcome.texts.items()),
        "places": [numbers[where] for where in outcome.moments],
        "unplaced": sorted(outcome.unplaced),
        "notes": outcome.notes,
    }


def _read(told: Mapping[str, Any], places: list[Where], sums: Iterator[list[float]]) -> Outcome:
    rows = [WindowRow(*row) for row in told["rows"]]
    return Outcome(
        tally=Tally(rows, LogHistogram.from_state(told["kl"])),
        texts={n: Continuation(tuple(ids), *rest) for n, (ids, *rest) in told["texts"]},
        moments={places[number]: _moments(next(sums)) for number in told["places"]},
        unplaced={(site, phase) for site, phase in told["unplaced"]},
        notes=list(told["notes"]),
    )


def _moments(sums: list[float]) -> Moments:
    values: Any = [int(x) if whole else x for x, whole in zip(sums, _WHOLE, strict=True)]
    return Moments(*values)
