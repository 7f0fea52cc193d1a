"""Massive activations: a few hidden states that are thousands of times as large as the others."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from torch import Tensor

from harness.probes.reading import count, widened


@dataclass(frozen=True)
class Massive:
    """Which hidden states are massive: |h| > absolute and |h| > ratio * median |h| of the text.

    The definition of Sun et al. (2024, arXiv 2402.17762) in the strict form of Owen et al. (2025,
    arXiv 2503.22329); the median is over all positions and features of one text after one block,
    the lower one of an even number of values.

    Args:
        absolute: Magnitude that a massive activation exceeds.
        ratio: How many times the median magnitude it exceeds.
    """

    absolute: float = 100.0
    ratio: float = 1000.0

    def bound(self, text: Tensor) -> float | None:
        """The smallest massive magnitude of a text; None where it has none.

        Args:
            text: Hidden states [n, D] of one text.
        """
        magnitudes = widened(text).abs().flatten()
        half = (len(magnitudes) + 1) // 2

        def massive(magnitude: Tensor) -> bool:
            # More than ratio medians: half of all values are below. Cheaper than to find a median.
            return count((magnitudes * self.ratio).lt_(magnitude)) >= half

        largest = magnitudes.max()
        if not largest > self.absolute or not massive(largest):
            return None
        candidates = magnitudes[magnitudes > self.absolute].sort().values
        place = bisect_left(range(len(candidates)), True, key=lambda k: massive(candidates[k]))
        return float(candidates[place])
