"""What was seen of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from harness.probes.moments import Moments
from harness.probes.positions import Part
from harness.probes.sites import Site

Phase = Literal["prefill", "decode"]
"""A forward pass over many positions at once, or one that continues texts by a token each."""


class Where(NamedTuple):
    """Where something was seen: at one site, in one phase, at a part of the positions."""

    site: Site
    phase: Phase
    part: Part


@dataclass
class Observation:
    """What was seen during one block of code, added up over its forward passes.

    Attributes:
        moments: Moments by the model that rows belong to, and by where they were seen; of a model
            without tokens there are none.
        unplaced: Names of sites whose output had no place in the text and was left out, and phases.
    """

    moments: dict[str, dict[Where, Moments]] = field(default_factory=dict)
    unplaced: set[tuple[str, Phase]] = field(default_factory=set)

    def add(self, owner: str, where: Where, moments: Moments) -> None:
        """Adds moments to those of a model that there are."""
        seen = self.moments.setdefault(owner, {})
        seen[where] = seen[where] + moments if where in seen else moments
