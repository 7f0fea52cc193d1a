"""What the tests of the data share: a model's side without a model, and a cache of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from harness.data import TextDataModule
from tests.tiny import tiny_tokenizer


@dataclass
class Source:
    """Stands for a model: its tokenizer and its number of positions."""

    tokenizer: Any
    max_positions: int | None = 64
    vocabulary: int = 260
    new_tokens: int | None = None


def tokenizer_adding_bos() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 256)]
    )
    assert tokenizer("a")["input_ids"][0] == 256
    return tokenizer


def words_alone() -> Any:
    """A tokenizer that knows two words, and fails on any other."""
    bare = Tokenizer(WordLevel({"known": 0, "words": 1}, unk_token="<unk>"))
    bare.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=bare)


@pytest.fixture
def data() -> Callable[..., TextDataModule]:
    """Makes a data module beside a model of 64 positions and a tokenizer of bytes."""

    def make(
        dataset: Any = "demo", *, tokenizer: Any = None, positions: int | None = 64, **keys: Any
    ) -> TextDataModule:
        source = Source(tokenizer or tiny_tokenizer(), positions)
        return TextDataModule(source, dataset, **keys)

    return make


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
