"""What was seen of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from harness.base.shards import ChannelGroup
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

    def count_all(self, group: ChannelGroup, is_share: Callable[[str], bool]) -> None:
        """Adds up outliers at sites of which each process has counted those in some channels.

        Args:
            group: The processes, which have seen the same sites.
            is_share: Whether a site of this name is one of these.
        """
        places = [
            (seen, where)
            for seen in self.moments.values()
            for where in seen
            if is_share(where.site.name)
        ]
        own = [(seen[where].beyond, seen[where].beyond_sigmas) for seen, where in places]
        counts = group.each(np.array(own, np.float64).reshape(-1, 2)).sum(0)
        for (seen, where), (beyond, beyond_sigmas) in zip(places, counts.tolist(), strict=True):
            seen[where] = replace(seen[where], beyond=int(beyond), beyond_sigmas=int(beyond_sigmas))
