"""What was seen of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
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


class Observation:
    """What was seen during one block of code, added up over its forward passes.

    Args:
        owners: Names of models that rows belong to.

    Attributes:
        unplaced: Names of sites whose output had no place in the text and was left out, and phases.
    """

    def __init__(self, owners: Iterable[str] = ()) -> None:
        self.unplaced: set[tuple[str, Phase]] = set()
        self._moments: dict[str, dict[Where, Moments]] = {owner: {} for owner in owners}
        self._unread: list[Callable[[], None]] = []

    @property
    def moments(self) -> dict[str, dict[Where, Moments]]:
        """Moments by the model that rows belong to, and by where they were seen.

        Of a model without tokens there are none. What a device has measured is waited for.
        """
        while self._unread:
            self._unread.pop(0)()
        return self._moments

    def read_later(self, read: Callable[[], None]) -> None:
        """Has something called, which adds moments, before they are asked for."""
        self._unread.append(read)

    def add(self, owner: str, where: Where, moments: Moments) -> None:
        """Adds moments to those of a model that there are."""
        seen = self._moments.setdefault(owner, {})
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
