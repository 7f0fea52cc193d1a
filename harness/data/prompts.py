"""Prompts: the texts that are continued, where they come from, and batches of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from harness.data.documents import Document
from harness.data.files import file_format, read_text
from harness.data.plan import SENTINEL, PlannedBatch, plan_batches
from harness.data.sources import TextSource
from harness.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPENINGS = "openings"
"""Names the beginnings of paragraphs of the evaluated text as prompts."""

_MOST_OPENINGS = 64
_OPENING_TOKENS = 16
_KEY = "data.prompts"


@dataclass
class PromptBatch:
    """A batch of prompts, padded on the left. B prompts, T ids.

    Args:
        number: Place in the plan of the prompts, -1 for a sentinel, which counts for nothing.
        step: Global number of the batch: the batches of windows come before.
        prompts: Number of the prompt of each row, [B] int64; -1 in a sentinel.
        input_ids: Ids of the prompts, [B, T] int64.
        attention_mask: 1 at ids, 0 at padding, [B, T] int64.
    """

    number: int
    step: int
    prompts: Tensor
    input_ids: Tensor
    attention_mask: Tensor


class PromptRows(Dataset[PromptBatch]):
    """Prompts by batch: the index is a planned batch, the item its tensors.

    Args:
        ids: Ids of each prompt.
        pad_id: The id that fills rows up; masked, so that any will do.
        first_step: Global number of the first batch.
    """

    def __init__(self, ids: Sequence[Sequence[int]], pad_id: int, first_step: int) -> None:
        self._ids = ids
        self._pad_id = pad_id
        self._first_step = first_step

    def __getitem__(self, batch: PlannedBatch) -> PromptBatch:
        """Makes the tensors of one planned batch."""
        number, prompts = batch
        # A sentinel runs like any other batch, so that sharded models wait for nobody.
        rows = [self._ids[prompt] for prompt in prompts] or [self._ids[0]]
        width = max(map(len, rows))
        input_ids = torch.tensor([[self._pad_id] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        numbers = torch.tensor(prompts or [SENTINEL])
        return PromptBatch(number, self._first_step + number, numbers, input_ids, mask)


@dataclass(frozen=True)
class Prompts:
    """Prompts, ready to be continued.

    Args:
        texts: The prompts; their place in this list is their number everywhere.
        rows: The prompts as tensors, by planned batch.
        plan: Batches of prompt numbers, independent of the number of processes.
    """

    texts: list[str]
    rows: PromptRows
    plan: list[list[int]]


def build_prompts(
    prompts: str | list[str],
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    *,
    chat_template: bool,
    new_tokens: int,
    positions: int | None,
    batch_size: int,
    first_step: int,
) -> Prompts:
    """Reads prompts and makes batches of them.

    Args:
        prompts: A list of prompts; a file (`.txt`: one a line; `.jsonl`, `.json`, `.csv`,
            `.parquet`: the column `prompt`, or the only one of strings); or `openings`, the first
            16 tokens of up to 64 paragraphs, spread evenly over the documents.
        documents: The evaluated text.
        tokenizer: The model's tokenizer.
        chat_template: Whether each is wrapped as a user's message that the model is to answer.
        new_tokens: Most tokens that are generated.
        positions: Most ids the model can see at once; None where it has no limit.
        batch_size: Prompts per batch.
        first_step: Global number of the first batch.

    Raises:
        ConfigError: There are none, the file cannot be read, the tokenizer has no chat template, or
            a prompt is empty or leaves no room for its continuation.
    """
    if isinstance(prompts, list):
        texts = prompts
    elif prompts == OPENINGS:
        texts = _openings(documents, tokenizer)
    else:
        texts = _from_file(Path(prompts).expanduser())
    if not texts:
        reason = "holds no prompts; give texts to continue"
        if prompts == OPENINGS:
            least = f"no paragraph has {2 * _OPENING_TOKENS} tokens"
            reason += f", or turn it off by model.generation=null: {least}"
        raise ConfigError(_KEY, prompts, reason)
    if chat_template and tokenizer.chat_template is None:
        reason = "the tokenizer has no chat template; it is for models that were tuned for chat"
        raise ConfigError("data.chat_template", True, reason)
    ids = [_encoded(prompt, tokenizer, chat_template) for prompt in texts]
    for number, (text, encoded) in enumerate(zip(texts, ids, strict=True)):
        _check(number, text, len(encoded), new_tokens, positions)
    pad = tokenizer.pad_token_id
    return Prompts(
        texts,
        PromptRows(ids, 0 if pad is None else int(pad), first_step),
        plan_batches([len(encoded) for encoded in ids], batch_size),
    )


def _check(number: int, text: str, length: int, new_tokens: int, positions: int | None) -> None:
    if not text.strip() or not length:
        raise ConfigError(_KEY, text, f"prompt {number} is empty; give texts to continue")
    if positions is not None and length + new_tokens > positions:
        reason = (
            f"has {length} tokens, which with {new_tokens} new ones "
            f"(model.generation.max_new_tokens) exceed the model's {positions} positions; "
            "shorten it, or generate fewer"
        )
        raise ConfigError(_KEY, f"prompt {number}", reason)


def _encoded(prompt: str, tokenizer: Any, chat_template: bool) -> list[int]:
    if not chat_template:
        return list(tokenizer(prompt)["input_ids"])
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": prompt}]
    options = {"add_generation_prompt": True, "return_dict": True}
    try:
        return list(tokenizer.apply_chat_template(messages, **options)["input_ids"])
    except (TemplateError, ValueError) as error:  # named templates without a default: ValueError
        reason = (
            f"the tokenizer's template fails on a user's message: {' '.join(str(error).split())}"
        )
        raise ConfigError("data.chat_template", True, reason) from error


def _from_file(path: Path) -> list[str]:
    kind = file_format(path)
    if kind is None or not path.is_file():
        reason = "no such file" if not path.is_file() else "not a file of prompts"
        raise ConfigError(
            _KEY, str(path), f"{reason}; give txt, jsonl, csv or parquet, a list, or {OPENINGS}"
        )
    try:
        if kind == "txt":
            # Unlike splitlines, which cuts at form feeds and the like.
            return [line for line in re.split(r"\r?\n", read_text(path)) if line.strip()]
        rows, _ = TextSource(str(path), default_column="prompt").rows("all", _KEY)
        return [text for _, text in rows]
    except ConfigError as error:
        reason = error.reason
        if error.key == "data.text_column":  # which is not for prompts
            reason = f"has no column prompt of strings; {reason.partition('; ')[2]}"
        raise ConfigError(_KEY, str(path), reason) from None


def _openings(documents: Sequence[Document], tokenizer: Any) -> list[str]:
    paragraphs = [part.strip() for document in documents for part in document.text.split("\n\n")]
    # Few are tokenized, however large the text; the fewest characters are one to a token.
    long = [paragraph for paragraph in paragraphs if len(paragraph) >= 2 * _OPENING_TOKENS]
    found = []
    for paragraph in _spread(long, 8 * _MOST_OPENINGS):
        ids = tokenizer(paragraph, add_special_tokens=False, verbose=False)["input_ids"]
        # As much again is left for what could have followed.
        if len(ids) >= 2 * _OPENING_TOKENS:
            found.append(tokenizer.decode(ids[:_OPENING_TOKENS]).strip())
    return _spread(found, _MOST_OPENINGS)


def _spread(items: list[str], most: int) -> list[str]:
    """At most so many items, at even distances."""
    count = min(len(items), most)
    return [items[k * len(items) // count] for k in range(count)]
