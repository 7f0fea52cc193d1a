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
from harness.data.units import Unit, block_units, document_units
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
        covered: Whether every token of every document is scored, so that words and bytes count.
        rows: The windows as tensors, by planned batch.
        plan: Batches of window numbers, independent of the number of processes.
        record: What stands in ``results.json``.
        notes: What was left out of the data set, one sentence each.
    """

    windows: list[Window]
    units: list[Unit]
    covered: bool
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


def resolve_bos(
    policy: BosPolicy, tokenizer: PreTrainedTokenizerBase, vocabulary: int | None
) -> tuple[BosPlace, int | None]:
    """Settles where a BOS stands and which token it is: BOS or, for want of one, EOS.

    ``auto`` is ``window`` for a tokenizer that adds a BOS by itself, as such models expect one in
    every window; else ``start`` if there is a BOS or EOS token; else ``none``.

    Raises:
        ConfigError: A BOS is asked for, and the tokenizer has neither BOS nor EOS; or the token
            that would be used is none of the model's.
    """
    token = tokenizer.bos_token_id
    token = tokenizer.eos_token_id if token is None else token
    if policy == "none" or (policy == "auto" and token is None):
        return "none", None
    if token is None:
        reason = "the tokenizer has neither a BOS nor an EOS token; use none"
        raise ConfigError("data.bos", policy, reason)
    if vocabulary is not None and token >= vocabulary:
        reason = f"the token has id {token}, where the model has {vocabulary} tokens; use none"
        raise ConfigError("data.bos", policy, reason)
    if policy == "auto":
        return ("window" if _adds_bos(tokenizer) else "start"), int(token)
    return policy, int(token)


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Tensor]:
    """Tokenizes texts without special tokens, whatever the tokenizer adds by itself.

    Returns:
        Ids of each text, [n] int32; n may exceed what the model can see, windows are cut later.

    Raises:
        ConfigError: The tokenizer fails.
    """
    encoded = []
    for first in range(0, len(texts), _TOKENIZED_AT_ONCE):
        some = texts[first : first + _TOKENIZED_AT_ONCE]
        try:
            ids = _ids(tokenizer, some)
        except Exception:  # of whatever kind the tokenizer's authors chose
            ids = [each for text in some for each in _ids_of_one(tokenizer, text)]
        encoded += [torch.tensor(each, dtype=torch.int32) for each in ids]
    return encoded


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    batch = tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return batch["input_ids"]  # type: ignore[no-any-return]


def _ids_of_one(tokenizer: PreTrainedTokenizerBase, text: str) -> list[list[int]]:
    try:
        return _ids(tokenizer, [text])
    except Exception as error:
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        reason = f"fails on the text that begins {text[:40]!r}: {told}"
        raise ConfigError("model.tokenizer", tokenizer.name_or_path, reason) from error


def build_corpus(
    documents: list[Document],
    tokenizer: PreTrainedTokenizerBase,
    layout: Layout,
    *,
    vocabulary: int | None,
    bos_id: int | None,
    batch_size: int,
    join: Join,
    dataset: str | list[str],
    split: str,
    text_column: str | None = None,
    notes: Sequence[str] = (),
) -> Corpus:
    """Tokenizes documents and cuts them into windows.

    Documents that tokenize to nothing are left out; those too short to score keep the corpus from
    counting as covered.

    Args:
        documents: What is scored; a single one where ``join`` is ``corpus``.
        tokenizer: The model's tokenizer.
        layout: How windows are cut.
        vocabulary: How many tokens the model has; None where that is not known.
        bos_id: The token that stands for BOS, where ``layout`` wants one.
        batch_size: Windows per batch.
        join: What ``documents`` were made by.
        dataset: For the record.
        split: For the record.
        text_column: For the record.
        notes: What was left out of the data set.

    Raises:
        ConfigError: Nothing is left to score, or the tokenizer is that of a larger vocabulary.
    """
    tokens = encode(tokenizer, [document.text for document in documents])
    check_vocabulary((int(ids.max()) for ids in tokens if len(ids)), vocabulary, tokenizer)
    cut = [layout.cut(len(ids), place) for place, ids in enumerate(tokens)]
    windows = [window for part in cut for window in part]
    total = sum(len(ids) for ids in tokens)
    if not total:
        raise ConfigError("data.dataset", dataset, f"no text in it (split {split})")
    if not windows:
        reason = f"no document is long enough to score ({total} tokens in all)"
        raise ConfigError("data.max_length", layout.max_length, f"{reason}; choose a smaller one")
    scored = sum(window.scored for window in windows)
    covered = scored == total
    # Named by document, as ``unit_of`` counts only documents that have windows.
    used = [document for document, part in zip(documents, cut, strict=True) if part]
    if join == "document":
        unit_of, units = document_units(used, [part for part in cut if part], covered, tokens)
    else:
        unit_of, units = block_units(windows, tokens)
    return Corpus(
        windows=windows,
        units=units,
        covered=covered,
        rows=WindowRows(
            tokens, windows, unit_of, bos_id=bos_id, pad_id=padding_id(tokenizer, vocabulary)
        ),
        plan=plan_batches([window.length for window in windows], batch_size),
        record=schema.DataRecord(
            dataset=dataset,
            split=split,
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
            text_column=text_column,
        ),
        notes=notes,
    )
