"""What a batch tells of a model: likelihood per token, and divergence from the original."""

from harness.scoring.batch import score_batch
from harness.scoring.histogram import LogHistogram
from harness.scoring.rows import Tally, WindowRow
from harness.scoring.tokens import TokenScores

__all__ = ["LogHistogram", "Tally", "TokenScores", "WindowRow", "score_batch"]
