"""Text made ready for a model: documents, windows, the batch plan, and the data module."""

from harness.data.batch import IGNORED, WindowBatch
from harness.data.corpus import Corpus
from harness.data.documents import Document, wikitext_detokenizer
from harness.data.files import absolute_paths
from harness.data.module import TextDataModule
from harness.data.plan import SENTINEL, plan_batches
from harness.data.prompts import OPENINGS, PromptBatch
from harness.data.token_source import TokenSource
from harness.data.units import Unit
from harness.data.windows import Layout, Window

__all__ = [
    "IGNORED",
    "OPENINGS",
    "SENTINEL",
    "Corpus",
    "Document",
    "Layout",
    "PromptBatch",
    "TextDataModule",
    "TokenSource",
    "Unit",
    "Window",
    "WindowBatch",
    "absolute_paths",
    "plan_batches",
    "wikitext_detokenizer",
]
