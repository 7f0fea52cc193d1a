"""Rows of what was measured: one per variant and window, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import torch
from torch import Tensor

from harness.scoring.histogram import LogHistogram
from harness.scoring.tokens import TokenScores
from harness.statistics.perplexity import likelihood


class WindowRow(NamedTuple):
    """What one variant scored on one window, summed over the window's scored tokens.

    Attributes:
        window: Number of the window in the plan.
        unit: Number of the document, or of the block of windows, that is resampled as one.
        tokens: Scored tokens.
        nll: Negative log-likelihood in nats.
        kl: Divergence from the original in nats; 0 for the original itself.
        agree: Tokens at which variant and original prefer the same next token.
    """

    window: int
    unit: int
    tokens: int
    nll: float
    kl: float
    agree: int


_TYPES = {int: "<i8", float: "<f8"}
ROW = np.dtype([(name, _TYPES[kind]) for name, kind in get_type_hints(WindowRow).items()])
"""A ``WindowRow`` in memory and in files."""

Rows = np.recarray[Any, Any]
"""Many of them: ``rows.nll`` is a column, ``rows[0].nll`` a number."""


class Tally:
    """What is kept of the scores of one model.

    Rows lie side by side, since there may be as many as there are windows for each of hundreds of
    models: an object for each, or an array for each batch, would take many times the memory.

    Args:
        rows: One per window, in any order.
        kl: Histogram of the divergence per token.
    """

    def __init__(self, rows: Iterable[WindowRow] = (), kl: LogHistogram | None = None) -> None:
        found = rows if isinstance(rows, np.ndarray) else np.array(list(rows), dtype=ROW)
        self._bytes = bytearray(found.tobytes())  # as they came, until they are read
        self._sorted: Rows | None = None
        self.kl = kl or LogHistogram()

    @classmethod
    def of(cls, windows: Tensor, units: Tensor, targets: Tensor, scores: TokenScores) -> Tally:
        """What the scores of one batch add up to.

        Args:
            windows: Numbers of the windows, [B].
            units: Their units of resampling, [B].
            targets: Token ids, -100 where nothing is scored, [B, T]; all of these on the host.
            scores: Per scored token, row after row.
        """
        scored = targets != -100
        row_of_token = scored.nonzero()[:, 0]
        rows = np.zeros(len(scored), dtype=ROW)
        rows["window"], rows["unit"] = windows.numpy(), units.numpy()
        rows["tokens"] = rows["agree"] = scored.sum(1).numpy()
        rows["nll"] = _per_row(scores.nll, row_of_token, len(rows))
        histogram = LogHistogram()
        if scores.kl is not None and scores.agree is not None:
            rows["kl"] = _per_row(scores.kl, row_of_token, len(rows))
            rows["agree"] = _per_row(scores.agree, row_of_token, len(rows))
            histogram.add(scores.kl)
        return cls(rows, histogram)

    def renumbered(self, windows: Tensor, units: Tensor) -> Tally:
        """The same of windows that have other numbers now, whose order is the same.

        Args:
            windows: Their numbers, in any order, [B].
            units: Their units of resampling, [B].
        """
        order = windows.argsort()
        rows = self.rows.copy()
        rows.window, rows.unit = windows[order].numpy(), units[order].numpy()
        return Tally(rows, self.kl)

    def merge(self, other: Tally) -> None:
        """Adds what another batch adds up to."""
        added = bytes(other._raw())  # the other may be this one
        self._bytes = self._raw()
        self._bytes += added
        self._sorted = None
        self.kl.merge(other.kl)

    @property
    def rows(self) -> Rows:
        """The rows in the order of the plan, whoever scored them."""
        if self._sorted is None:
            # They are sorted once, when somebody reads them: merging takes no longer the more
            # there are.
            rows = np.frombuffer(self._bytes, ROW)
            if (np.diff(rows["window"]) < 0).any():
                rows = rows[np.argsort(rows["window"], kind="stable")]
            self._bytes, self._sorted = bytearray(), rows.view(np.recarray)
        return self._sorted

    @property
    def tokens(self) -> int:
        """Scored tokens."""
        return int(self.rows.tokens.sum())

    @property
    def is_finite(self) -> bool:
        """Whether every likelihood is finite."""
        return bool(np.isfinite(self.rows.nll).all())

    def divergence(self) -> dict[str, float | None]:
        """Figures of the divergence from the original, by the names that results give them."""
        finite = self.kl.nonfinite == 0
        agreed = int(self.rows.agree.sum())
        return {
            "kl_mean": likelihood(self.rows.kl.tolist(), self.tokens).nll,
            "kl_p50": self.kl.quantile(0.5) if finite else None,
            "kl_p99": self.kl.quantile(0.99) if finite else None,
            "kl_max": self.kl.maximum if finite else None,
            "top1_agreement": agreed / self.tokens if finite else None,
        }

    def _raw(self) -> bytearray:
        """All rows as bytes, which may grow."""
        return self._bytes if self._sorted is None else bytearray(self._sorted.tobytes())


def _per_row(values: Tensor, row_of_token: Tensor, rows: int) -> np.ndarray[Any, Any]:
    # Summed in fp64 on the host: some accelerators have no fp64, and a sum there may vary in order.
    sums = torch.zeros(rows, dtype=torch.float64)
    sums.index_add_(0, row_of_token, values.detach().cpu().to(torch.float64))
    return sums.numpy()
