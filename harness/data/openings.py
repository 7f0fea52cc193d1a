"""Openings: the beginnings of paragraphs of the evaluated text, as prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.data.documents import Document

_MOST = 64
_TOKENS = 16
LEAST_TOKENS = 2 * _TOKENS
"""What a paragraph has at least: as much again is left for what could have followed."""

_BLANK_LINES = re.compile(r"(?:\r?\n){2,}|\r{2,}")


def openings(documents: Sequence[Document], tokenizer: Any) -> list[str]:
    """Returns the first 16 tokens of up to 64 paragraphs, spread evenly over documents."""
    paragraphs = [
        part.strip() for document in documents for part in _BLANK_LINES.split(document.text)
    ]
    # Few are tokenized, however large the text; the fewest characters are one to a token.
    long = [paragraph for paragraph in paragraphs if len(paragraph) >= LEAST_TOKENS]
    found = [_opening(paragraph, tokenizer) for paragraph in _spread(long, 8 * _MOST)]
    return _spread([opening for opening in found if opening], _MOST)


def _opening(paragraph: str, tokenizer: Any) -> str:
    """The beginning of a paragraph, cut back to a whole character; empty where it is too short."""
    encoded = tokenizer(
        paragraph,
        add_special_tokens=False,
        return_offsets_mapping=tokenizer.is_fast,
        verbose=False,
    )
    ids = encoded["input_ids"]
    if len(ids) < LEAST_TOKENS:
        return ""
    if not tokenizer.is_fast:
        # Decoding may give something else: other spaces, or half of a character.
        begun = (tokenizer.decode(ids[:count]).strip() for count in range(_TOKENS, 0, -1))
        return next((text for text in begun if paragraph.startswith(text)), "")
    # A character may have several tokens; the one that is not whole belongs to what follows.
    offsets = encoded["offset_mapping"]
    return paragraph[: min(offsets[_TOKENS - 1][1], offsets[_TOKENS][0])].rstrip()


def _spread(items: list[str], most: int) -> list[str]:
    """At most so many items, at even distances."""
    count = min(len(items), most)
    return [items[k * len(items) // count] for k in range(count)]
