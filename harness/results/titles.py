"""What a run measured, in a few words."""

from __future__ import annotations

from pathlib import Path

from harness.results.numbers import counted
from harness.results.schema import Results


def caption(results: Results) -> str:
    """What was measured: the model, the text, and how much of it."""
    about = title(results)
    if data := results.data:
        extent = f"{data.tokens:,} tokens in {counted(data.documents, 'document')}"
        about = f"{about}, {data.split}: {extent}"
    return f"{about} (partial: not all was measured)" if results.run.partial else about


def title(results: Results) -> str:
    """Which model, and on which text; folders and files by their last name."""
    model = _short(results.model.pretrained)
    if results.data is None:
        return model
    dataset = results.data.dataset
    texts = [dataset] if isinstance(dataset, str) else dataset
    return f"{model} on {', '.join(map(_short, texts))}"


def _short(name: str) -> str:
    return Path(name).name if Path(name).is_absolute() else name
