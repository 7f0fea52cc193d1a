"""Measures at once: on the CPU, where nothing has to be waited for.

Legend: B rows of T tokens, D features.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from torch import Tensor

from harness.base.shards import ChannelGroup
from harness.probes.massive import Massive
from harness.probes.measuring import measure_parts
from harness.probes.moments import Moments, Thresholds
from harness.probes.observation import Observation, Phase, Where
from harness.probes.positions import Part, Positions
from harness.probes.sites import RESIDUAL, Site

Found = dict[tuple[str, Part], Moments]


class Immediate:
    """Measures each output when it is seen.

    Args:
        observation: Where moments go.
        thresholds: What counts as an outlier.
        massive: What counts as a massive activation.
    """

    def __init__(self, observation: Observation, thresholds: Thresholds, massive: Massive) -> None:
        self._observation = observation
        self._thresholds = thresholds
        self._massive = massive

    def see(
        self,
        site: Site,
        phase: Phase,
        positions: Positions,
        values: Tensor,
        group: ChannelGroup | None = None,
    ) -> None:
        """Measures an output by row and token [B, T, D].

        Args:
            site: Where it was seen.
            phase: And when.
            positions: Its tokens.
            values: The output.
            group: Processes of which each has some of its channels, and all measure at once.
        """
        found = measure_parts(values.flatten(0, 1), positions.parts, self._thresholds, group)
        # The median is over a text, of which decoding has one token at a time.
        if site.kind == RESIDUAL and positions.begins:
            found = self._with_massive(found, positions, values)
        for (owner, part), moments in found.items():
            self._observation.add(owner, Where(site, phase, part), moments)

    def end(self) -> None:
        """Nothing is left to do."""

    def _with_massive(self, found: Found, positions: Positions, values: Tensor) -> Found:
        # A text with NaN has none, but others of its owner may.
        absolute = self._massive.absolute
        large = {owner for (owner, _), m in found.items() if not m.max_abs <= absolute}
        if not large:
            return found
        counts: Counter[tuple[str, Part]] = Counter()
        for owner, text in positions.texts(values):
            bound = self._massive.bound(text) if owner in large else None
            if bound is not None:
                first, *rest = (text.abs() >= bound).sum(1).tolist()
                counts[owner, "first"] += first
                counts[owner, "rest"] += sum(rest)
        return {key: replace(moments, massive=counts[key]) for key, moments in found.items()}
