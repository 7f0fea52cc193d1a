"""A corpus made ready: token ids, windows, units of resampling, the batch plan, and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.data.batch import WindowRows
from harness.data.checks import check_vocabulary, padding_id
from harness.data.documents import Document, Join
from harness.data.plan import plan_batches
from harness.data.sources import Reading
from harness.data.token_source import TokenSource
from harness.data.units import Unit, make_units
from harness.data.windows import BosPlace, BosPolicy, Layout, Window
from harness.errors import ConfigError
from harness.results import schema

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TOKENIZED_AT_ONCE = 256


@dataclass(frozen=True)
class Corpus:
    """One split, ready to be scored or trained on.

    Args:
        windows: The windows; their place in this list is their number everywhere.
        units: Units of resampling; a place in this list is a unit's number everywhere.
        rows: The windows as tensors, by planned batch.
        plan: Batches of window numbers, independent of the number of processes.
        record: What stands in ``results.json``.
        notes: What was left out of the data set, one sentence each.
    """

    windows: list[Window]
    units: list[Unit]
    rows: WindowRows
    plan: list[list[int]]
    record: schema.DataRecord
    notes: Sequence[str] = ()

    @property
    def longest(self) -> int:
        """Most ids that the model sees at once."""
        return max(window.length for window in self.windows)

    def size(self, batch: list[int]) -> int:
        """Ids of a batch of the plan, padding among them."""
        return len(batch) * max(self.windows[number].length for number in batch)


def resolve_bos(policy: BosPolicy, source: TokenSource) -> BosPlace:
    """Settles where a BOS stands: the tokenizer's or, for want of one, its EOS.

    ``auto`` is ``window`` for a tokenizer that adds a BOS by itself, as such models expect one in
    every window; else ``start`` if there is a BOS or EOS token; else ``none``.

    Raises:
        ConfigError: A BOS is asked for, and the tokenizer has neither BOS nor EOS; or the token
            that would be used is none of the model's.
    """
    token = _bos_id(source.tokenizer)
    if policy == "none" or (policy == "auto" and token is None):
        return "none"
    if token is None:
        reason = "the tokenizer has neither a BOS nor an EOS token; use none"
        raise ConfigError("data.bos", policy, reason)
    if source.vocabulary is not None and token >= source.vocabulary:
        reason = f"the token has id {token}, where the model has {source.vocabulary} tokens"
        raise ConfigError("data.bos", policy, f"{reason}; use none")
    if policy == "auto":
        bos = source.tokenizer.bos_token_id
        adds_bos = bos is not None and source.tokenizer("a")["input_ids"][:1] == [bos]
        return "window" if adds_bos else "start"
    return policy


def _bos_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    token: int | None = eos if bos is None else bos
    return token


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Tensor]:
    """Tokenizes texts without special tokens, whatever the tokenizer adds by itself.

    Returns:
        Ids of each text, [n] int32; n may exceed what the model can see, windows are cut later.

    Raises:
        ConfigError: The tokenizer fails.
    """
    encoded: list[Tensor] = []
    for first in range(0, len(texts), _TOKENIZED_AT_ONCE):
        some = texts[first : first + _TOKENIZED_AT_ONCE]
        try:
            ids = tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
            encoded += [torch.tensor(each, dtype=torch.int32) for each in ids]
        except Exception as error:  # of whatever kind the tokenizer's authors chose
            if len(some) > 1:  # each by itself, so that the one at fault is named
                encoded += [ids for text in some for ids in encode(tokenizer, [text])]
                continue
            told = f"{type(error).__name__}: {' '.join(str(error).split())}"
            reason = f"fails on the text that begins {some[0][:40]!r}: {told}"
            raise ConfigError("model.tokenizer", tokenizer.name_or_path, reason) from error
    return encoded


def build_corpus(
    documents: list[Document],
    reading: Reading,
    source: TokenSource,
    layout: Layout,
    *,
    join: Join,
    batch_size: int,
    dataset: str | list[str],
) -> Corpus:
    """Tokenizes documents and cuts them into windows.

    Documents that tokenize to nothing are left out; those too short to score keep the corpus from
    counting as covered.

    Args:
        documents: What is scored; a single one where ``join`` is ``corpus``.
        reading: Where the documents come from, for the record.
        source: The tokenizer, and how many tokens the model has.
        layout: How windows are cut.
        join: What ``documents`` were made by.
        batch_size: Windows per batch.
        dataset: For the record.

    Raises:
        ConfigError: Nothing is left to score, or the tokenizer is that of a larger vocabulary.
    """
    tokenizer = source.tokenizer
    tokens = encode(tokenizer, [document.text for document in documents])
    check_vocabulary((int(ids.max()) for ids in tokens if len(ids)), source)
    cut = [layout.cut(len(ids), place) for place, ids in enumerate(tokens)]
    windows = [window for part in cut for window in part]
    total = sum(len(ids) for ids in tokens)
    if not total:
        raise ConfigError("data.dataset", dataset, f"no text in it (split {reading.split})")
    if not windows:
        reason = f"no document is long enough to score ({total} tokens in all)"
        raise ConfigError("data.max_length", layout.max_length, f"{reason}; choose a smaller one")
    scored = sum(window.scored for window in windows)
    covered = scored == total
    unit_of, units = make_units(documents, cut, tokens, join=join, covered=covered)
    used = [document for document, part in zip(documents, cut, strict=True) if part]
    return Corpus(
        windows=windows,
        units=units,
        rows=WindowRows(
            tokens, windows, unit_of, _bos_id(tokenizer), padding_id(tokenizer, source.vocabulary)
        ),
        plan=plan_batches([window.length for window in windows], batch_size),
        record=schema.DataRecord(
            dataset=dataset,
            split=reading.split,
            documents=sum(document.rows for document in used),
            windows=len(windows),
            tokens=scored,
            words=sum(document.words for document in used) if covered else None,
            bytes=sum(document.bytes for document in used) if covered else None,
            max_length=layout.max_length,
            stride=layout.stride,
            join=join,
            bos=layout.bos,
            windows_kind=layout.kind,
            text_column=reading.column,
        ),
        notes=reading.notes,
    )
