"""Percentiles of a stream of divergences from a fixed logarithmic histogram."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from torch import Tensor

LOWEST_DECADE = -10
HIGHEST_DECADE = 3
BINS_PER_DECADE = 100

RELATIVE_ERROR = 10.0 ** (0.5 / BINS_PER_DECADE) - 1.0
"""Largest relative error of a quantile between 1e-10 and 1e3: half a bin, 1.16 %."""

# Edges come from Python's pow and are compared with, never recomputed per value: the bin of a value
# that sits on an edge is then the same however the stream was cut up and on whatever machine.
_EDGES = np.array(
    [
        10.0 ** (LOWEST_DECADE + i / BINS_PER_DECADE)
        for i in range((HIGHEST_DECADE - LOWEST_DECADE) * BINS_PER_DECADE + 1)
    ]
)
# The middle of a bin is geometric, so that the error is the same fraction at either end of it.
_MIDDLES = [0.0, *(math.sqrt(low * high) for low, high in itertools.pairwise(_EDGES.tolist()))]


class LogHistogram:
    """Counts of non-negative values in logarithmic bins, from which quantiles are read.

    The bins never move: 100 to a decade from 1e-10 to 1e3, one below them whose value is 0, and
    whatever lies above in the last. Counts are integers on the host, so that merging the histograms
    of batches or processes, in any order, gives exactly the histogram of all values.

    A quantile is that of the sample (the smallest value which at least a share ``q`` of all values
    do not exceed) within ``RELATIVE_ERROR`` where it lies in the bins, and within 1e-10 in absolute
    terms below them; above 1e3 only ``maximum`` is reliable.

    Attributes:
        nonfinite: How many values were NaN or infinite. They stand in no bin.
        maximum: Exact largest finite value, in the unit of the values; None before the first.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(len(_MIDDLES), dtype=np.int64)
        self.nonfinite = 0
        self.maximum: float | None = None

    def __eq__(self, other: object) -> bool:
        """Whether both have counted the same."""
        return isinstance(other, LogHistogram) and self.state() == other.state()

    @property
    def count(self) -> int:
        """How many finite values were added."""
        return int(self._counts.sum())

    def add(self, values: Tensor) -> None:
        """Adds values of any shape, fp32 or fp64, on any device.

        They are copied to the host (some devices have no fp64), so on an accelerator collect them
        and add a batch at a time. Zeros, negative rounding errors and whatever else is below 1e-10
        fall into the bin whose value is 0.
        """
        found = values.detach().flatten().cpu().double().numpy()
        finite = found[np.isfinite(found)]
        self.nonfinite += found.size - finite.size
        if finite.size == 0:
            return
        bins = np.minimum(np.searchsorted(_EDGES, finite, side="right"), len(_MIDDLES) - 1)
        self._counts += np.bincount(bins, minlength=len(_MIDDLES))
        self._raise_maximum(float(finite.max()))

    def merge(self, other: LogHistogram) -> None:
        """Adds whatever ``other`` has counted."""
        self._counts += other._counts
        self.nonfinite += other.nonfinite
        if other.maximum is not None:
            self._raise_maximum(other.maximum)

    def quantile(self, q: float) -> float | None:
        """Returns the quantile of the finite values, never above their maximum.

        Args:
            q: Share of the values, from 0 to 1; 0.99 is the 99th percentile.

        Returns:
            The middle of the bin that holds the sample's quantile (``inverted_cdf`` in numpy's
            words), in the unit of the values; None where there are none.

        Raises:
            ValueError: ``q`` is not between 0 and 1.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies between 0 and 1, not at {q}")
        if self.maximum is None:
            return None
        rank = max(1, math.ceil(q * self.count))
        index = int(np.searchsorted(self._counts.cumsum(), rank))
        return min(_MIDDLES[index], max(self.maximum, 0.0))

    def state(self) -> dict[str, Any]:
        """Returns everything counted as plain numbers and lists, ready for JSON; empty bins out."""
        filled = self._counts.nonzero()[0]
        return {
            "bins": filled.tolist(),
            "counts": self._counts[filled].tolist(),
            "nonfinite": self.nonfinite,
            "maximum": self.maximum,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Returns the histogram whose ``state()`` this is."""
        histogram = cls()
        histogram._counts[state["bins"]] = state["counts"]
        histogram.nonfinite = state["nonfinite"]
        histogram.maximum = state["maximum"]
        return histogram

    def _raise_maximum(self, value: float) -> None:
        self.maximum = value if self.maximum is None else max(self.maximum, value)
