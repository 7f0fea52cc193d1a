"""Text made ready for a model: documents, windows, the batch plan, and the data module."""

from harness.data.batch import WindowBatch
from harness.data.corpus import Corpus, ScoredText
from harness.data.files import absolute_paths
from harness.data.module import TextDataModule
from harness.data.prompts import OPENINGS, PromptBatch
from harness.data.units import Unit

__all__ = [
    "OPENINGS",
    "Corpus",
    "PromptBatch",
    "ScoredText",
    "TextDataModule",
    "Unit",
    "WindowBatch",
    "absolute_paths",
]
