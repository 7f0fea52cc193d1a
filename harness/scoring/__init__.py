"""What is measured: likelihood, divergence from the original, and how sure one can be."""

from harness.scoring.batch import score_batch
from harness.scoring.generate import Continuation, generate_batch
from harness.scoring.head import ChunkedHead
from harness.scoring.histogram import LogHistogram
from harness.scoring.rows import Tally, WindowRow
from harness.scoring.tokens import TokenScores

__all__ = [
    "ChunkedHead",
    "Continuation",
    "LogHistogram",
    "Tally",
    "TokenScores",
    "WindowRow",
    "generate_batch",
    "score_batch",
]
