"""Rows of what was measured: one per variant and window, and what they add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

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


@dataclass
class Tally:
    """What is kept of the scores of one model.

    Attributes:
        rows: One per window, in the order of scoring.
        kl: Histogram of the divergence per token.
    """

    rows: list[WindowRow] = field(default_factory=list)
    kl: LogHistogram = field(default_factory=LogHistogram)

    @classmethod
    def of(cls, windows: Tensor, units: Tensor, targets: Tensor, scores: TokenScores) -> Tally:
        """What the scores of one batch add up to.

        Args:
            windows: Numbers of the windows, [B].
            units: Their units of resampling, [B].
            targets: Token ids, -100 where nothing is scored, [B, T].
            scores: Per scored token, row after row.
        """
        tally = cls()
        scored = (targets != -100).cpu()
        row_of_token = scored.nonzero()[:, 0]
        tokens = scored.sum(1).tolist()
        nll = _per_row(scores.nll, row_of_token, len(tokens))
        if scores.kl is None or scores.agree is None:
            kl, agree = [0.0] * len(tokens), tokens
        else:
            kl = _per_row(scores.kl, row_of_token, len(tokens))
            agree = [int(count) for count in _per_row(scores.agree, row_of_token, len(tokens))]
            tally.kl.add(scores.kl)
        columns = zip(windows.tolist(), units.tolist(), tokens, nll, kl, agree, strict=True)
        tally.rows.extend(WindowRow(*row) for row in columns)
        return tally

    def merge(self, other: Tally) -> None:
        """Adds what another batch adds up to."""
        self.rows += other.rows
        self.kl.merge(other.kl)

    @property
    def tokens(self) -> int:
        """Scored tokens."""
        return sum(row.tokens for row in self.rows)

    @property
    def is_finite(self) -> bool:
        """Whether every likelihood is finite."""
        return all(math.isfinite(row.nll) for row in self.rows)

    def divergence(self) -> dict[str, float | None]:
        """Figures of the divergence from the original, by the names that results give them."""
        finite = self.kl.nonfinite == 0
        agreed = sum(row.agree for row in self.rows)
        return {
            "kl_mean": likelihood([row.kl for row in self.sorted_rows()], self.tokens).nll,
            "kl_p50": self.kl.quantile(0.5) if finite else None,
            "kl_p99": self.kl.quantile(0.99) if finite else None,
            "kl_max": self.kl.maximum if finite else None,
            "top1_agreement": agreed / self.tokens if finite else None,
        }

    def sorted_rows(self) -> list[WindowRow]:
        """The rows in the order of the plan, whoever scored them."""
        return sorted(self.rows)


def _per_row(values: Tensor, row_of_token: Tensor, rows: int) -> list[float]:
    # Summed in fp64 on the host: some accelerators have no fp64, and a sum there may vary in order.
    sums = torch.zeros(rows, dtype=torch.float64)
    sums.index_add_(0, row_of_token, values.detach().cpu().to(torch.float64))
    return sums.tolist()
