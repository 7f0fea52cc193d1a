"""Prompts: the texts that are continued, where they come from, and batches of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from harness.data.batch import Batch, key_of
from harness.data.checks import check_vocabulary, padding_id
from harness.data.documents import Document
from harness.data.files import at, file_format
from harness.data.openings import LEAST_TOKENS, openings
from harness.data.plan import SENTINEL, PlannedBatch, plan_batches
from harness.data.sources import TextSource
from harness.data.tables import LONE_SURROGATE, has_lone_surrogate
from harness.data.time_limit import time_limit
from harness.data.token_source import TokenSource
from harness.errors import ConfigError

OPENINGS = "openings"
"""Names the beginnings of paragraphs of the evaluated text as prompts."""

_TEMPLATE_SECONDS = 10
_KEY = "data.prompts"
_ACCEPTED = f'txt, jsonl, csv or parquet, a list such as ["A text"], or {OPENINGS}'


class _Prompt(NamedTuple):
    """A prompt, and where it stands: ``line 3`` of a file, or ``prompt 2`` where there is none."""

    text: str
    place: str
    file: str | None = None

    def refusal(self, reason: str) -> ConfigError:
        beginning = self.text if len(self.text) <= 40 else f"{self.text[:40]}…"
        if self.file is None:
            return ConfigError(_KEY, beginning, f"{self.place} {reason}")
        quoted = f", {beginning!r}," if beginning.strip() else ""
        return ConfigError(_KEY, self.file, f"{self.place}{quoted} {reason}")


@dataclass
class PromptBatch(Batch):
    """A batch of prompts, padded on the left. B prompts, T ids.

    Args:
        number: Place in the plan of the prompts, -1 for a sentinel, which counts for nothing.
        step: Number of the batch among all of a run: the batches of windows come before. -1 for a
            sentinel.
        prompts: Number of the prompt of each row, [B] int64; -1 in a sentinel.
        input_ids: Ids of the prompts, [B, T] int64.
        attention_mask: 1 at ids, 0 at padding, [B, T] int64.
        key: What is the same for batches of the same prompts, padded alike.
    """

    number: int
    step: int
    prompts: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    key: str = ""

    @property
    def size(self) -> float:
        """How much work it is: a batch."""
        return 1.0


@dataclass(eq=False)
class PromptRows(Dataset[PromptBatch]):
    """Prompts by batch: the index is a planned batch, the item its tensors.

    Args:
        ids: Ids of each prompt.
        pad_id: The id that fills rows up; masked, so that any will do.
        first_step: Tells the global number of the first batch, once it is its turn.
    """

    ids: Sequence[Sequence[int]]
    pad_id: int
    first_step: Callable[[], int]

    def __getitem__(self, batch: PlannedBatch) -> PromptBatch:
        """Makes the tensors of one planned batch."""
        number, prompts = batch
        # A sentinel runs like any other batch, so that sharded models wait for nobody.
        rows = [torch.tensor(self.ids[prompt]) for prompt in prompts or [0]]
        input_ids = pad_sequence(rows, True, self.pad_id, "left")
        mask = pad_sequence([torch.ones_like(row) for row in rows], True, 0, "left")
        numbers = torch.tensor(prompts or [SENTINEL])
        key = key_of(input_ids, mask)
        step = self.first_step() + number if number >= 0 else number
        return PromptBatch(number, step, numbers, input_ids, mask, key if number >= 0 else "")


@dataclass(frozen=True)
class Prompts:
    """Prompts, ready to be continued.

    Args:
        texts: The prompts; their place in this list is their number everywhere.
        rows: The prompts as tensors, by planned batch.
        plan: Batches of prompt numbers, independent of the number of processes.
        longest: Most ids that the model sees at once, those that it writes among them.
    """

    texts: list[str]
    rows: PromptRows
    plan: list[list[int]]
    longest: int

    def padded(self) -> PromptBatch | None:
        """The first batch that has padding; None where none has."""
        batches = (self.rows[planned] for planned in enumerate(self.plan))
        return next((batch for batch in batches if not bool(batch.attention_mask.all())), None)


def build_prompts(
    prompts: str | list[str] | None,
    documents: Sequence[Document],
    source: TokenSource,
    *,
    chat_template: bool,
    batch_size: int,
    first_step: Callable[[], int],
) -> Prompts:
    """Reads prompts and makes batches of them.

    Args:
        prompts: What ``data.prompts`` holds.
        documents: The evaluated text.
        source: The tokenizer, how much the model can see and how much it is to write.
        chat_template: Whether each is wrapped as a user's message that the model is to answer.
        batch_size: Prompts per batch.
        first_step: Tells the global number of the first batch, once it is its turn.

    Raises:
        ConfigError: No text is generated, there are no prompts, the file cannot be read, a prompt
            is empty, no text, or leaves no room for its continuation, or the tokenizer has no chat
            template, is that of a larger vocabulary, or fails.
    """
    if source.new_tokens is None:
        reason = "predict generates text: --model.generation.max_new_tokens says how much"
        raise ConfigError("model.generation", None, reason)
    if prompts is None:
        reason = f"model.generation asks for texts; give a list, a file, or {OPENINGS}"
        raise ConfigError(_KEY, None, reason)
    tokenizer = source.tokenizer
    prompts = _unwrapped(prompts)
    if isinstance(prompts, str) and prompts != OPENINGS:
        found = list(_from_file(at(prompts)))
    else:
        texts = prompts if isinstance(prompts, list) else openings(documents, tokenizer)
        found = [_Prompt(text, f"prompt {number}") for number, text in enumerate(texts)]
    if not found:
        reason = "holds no prompts; give texts to continue"
        if prompts == OPENINGS:
            least = f"no paragraph has {LEAST_TOKENS} tokens"
            reason += f", or turn it off by model.generation=null: {least}"
        raise ConfigError(_KEY, prompts, reason)
    if chat_template and tokenizer.chat_template is None:
        reason = "the tokenizer has no chat template; it is for models that were tuned for chat"
        raise ConfigError("data.chat_template", True, reason)
    ids = [_ids(prompt, source, chat_template) for prompt in found]
    check_vocabulary(map(max, ids), source)
    return Prompts(
        [prompt.text for prompt in found],
        PromptRows(ids, padding_id(tokenizer, source.vocabulary), first_step),
        plan_batches([len(encoded) for encoded in ids], batch_size),
        longest=max(map(len, ids)) + source.new_tokens,
    )


def _unwrapped(prompts: str | list[str]) -> str | list[str]:
    """A list that came as text, since not all that stands in it is text."""
    if isinstance(prompts, str) and prompts.startswith("[") and not os.path.exists(prompts):
        with suppress(yaml.YAMLError):
            items = yaml.safe_load(prompts)
            return items if isinstance(items, list) else prompts
    return prompts


def _from_file(path: Path) -> Iterator[_Prompt]:
    kind = file_format(path)
    # Unlike those of Path, these take a sentence too long to be the name of a file.
    if kind is None or not os.path.isfile(path):
        reason = "not a file of prompts" if os.path.isfile(path) else "no such file"
        if os.path.isdir(path):
            reason = "a folder, not a file of prompts"
        raise ConfigError(_KEY, str(path), f"{reason}; give {_ACCEPTED}")
    try:
        rows = (row for _, row in TextSource(str(path), default_column="prompt").read("all").rows)
        if kind == "txt":
            # Unlike splitlines, which cuts at form feeds and the like.
            lines = enumerate(re.split(r"\r\n?|\n", next(rows)), start=1)
            yield from (_Prompt(line, f"line {n}", str(path)) for n, line in lines if line.strip())
        else:
            yield from (_Prompt(row, f"row {n}", str(path)) for n, row in enumerate(rows, start=1))
    except ConfigError as error:
        reason = error.reason
        if error.key == "data.text_column":  # which is not for prompts
            reason = f"no column prompt, nor one of text alone; {reason.partition('; ')[2]}"
        raise ConfigError(_KEY, str(path), reason) from None


def _ids(prompt: _Prompt, source: TokenSource, chat_template: bool) -> list[int]:
    """The ids of a prompt, which leave room for what follows them."""
    if not isinstance(prompt.text, str):
        raise ConfigError(_KEY, prompt.text, f"{prompt.place} is no text; put each in quotes")
    if not prompt.text.strip():
        empty = "empty" if prompt.file is None else "empty, null or missing"
        raise prompt.refusal(f"is {empty}; give texts to continue")
    if has_lone_surrogate(prompt.text):
        raise prompt.refusal(f"cannot be encoded: {LONE_SURROGATE}")
    ids = (_templated if chat_template else _encoded)(prompt, source.tokenizer)
    if not ids:
        raise prompt.refusal("has no tokens; give texts to continue")
    new, positions = source.new_tokens or 0, source.max_positions
    if positions is not None and len(ids) + new > positions:
        raise prompt.refusal(
            f"has {len(ids)} tokens, which with {new} new ones (model.generation.max_new_tokens) "
            f"exceed the model's {positions} positions; shorten it, or generate fewer"
        )
    return ids


def _encoded(prompt: _Prompt, tokenizer: Any) -> list[int]:
    try:
        ids = list(tokenizer(prompt.text)["input_ids"])
    except Exception as error:  # of whatever kind the tokenizer's authors chose
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise prompt.refusal(f"makes the tokenizer fail: {told}") from error
    # Some tokenizers put an EOS behind every text; what has ended is not continued.
    ended = len(ids) > 1 and ids[-1] == tokenizer.eos_token_id
    return ids[:-1] if ended and not prompt.text.endswith(tokenizer.eos_token) else ids


def _templated(prompt: _Prompt, tokenizer: Any) -> list[int]:
    messages = [{"role": "user", "content": prompt.text}]
    options = {"add_generation_prompt": True, "return_dict": True}
    try:
        # transformers lets a template touch nothing, but take its time.
        with time_limit(_TEMPLATE_SECONDS):
            return list(tokenizer.apply_chat_template(messages, **options)["input_ids"])
    except Exception as error:  # a template is a program, which may fail in any way
        told = " ".join(str(error).split()) or type(error).__name__
        reason = f"the tokenizer's template fails on a user's message: {told}"
        raise ConfigError("data.chat_template", True, reason) from error
