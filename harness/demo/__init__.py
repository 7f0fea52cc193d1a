"""The embedded model and corpus, with which the harness runs on a machine that has nothing else."""

from pathlib import Path

from harness.demo.corpus import documents

MODEL_FOLDER = Path(__file__).parent / "model"
"""The folder of the embedded model and its tokenizer, in the layout of Hugging Face."""

__all__ = ["MODEL_FOLDER", "documents"]
