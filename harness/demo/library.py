"""Writes the text that the embedded model is trained on: ``python -m harness.demo.library FOLDER``.

The training split of the embedded corpus alone, half a million tokens, would be learnt by heart.
Beside it stand the docstrings of libraries that the harness is installed with: the same kind of
prose, fifteen times as much. Validation is that of the embedded corpus.
"""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from jsonargparse import auto_cli

from harness.demo.corpus import SHORTEST_DOCUMENT, docstrings, documents, long_paragraphs, modules

LIBRARIES = ("networkx", "numpy", "pandas", "scipy", "sympy", "torch")
"""Libraries of the pinned set with the most prose about Python."""

_REPEATS = 3
"""How often the training split of the embedded corpus stands among the rest."""


def library_documents(root: Path, taken: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields name and docstrings of each module of ``LIBRARIES``.

    Args:
        root: The folder of installed packages.
        taken: Long paragraphs that stand elsewhere. They are left out, and so is what a module
            repeats of itself or of one before.
    """
    seen = set(taken)
    for name, path in modules(root, LIBRARIES):
        kept = []
        for part in docstrings(path).split("\n\n"):
            paragraph = part.strip()
            if paragraph not in seen:
                kept.append(part)
                seen.update(long_paragraphs(paragraph))
        text = "\n\n".join(kept)
        if len(text) >= SHORTEST_DOCUMENT:
            yield f"module:{name}", text + "\n"


def write(folder: Path) -> None:
    """Writes ``train.jsonl`` and ``validation.jsonl``.

    Args:
        folder: Where to; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: documents(split) for split in ("train", "validation", "test")}
    taken = [p for split in splits.values() for _, text in split for p in long_paragraphs(text)]
    root = Path(sysconfig.get_path("purelib"))
    train = splits["train"] * _REPEATS + list(library_documents(root, taken))
    for split, rows in (("train", train), ("validation", splits["validation"])):
        lines = (json.dumps({"name": name, "text": text}) + "\n" for name, text in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    auto_cli(write)
