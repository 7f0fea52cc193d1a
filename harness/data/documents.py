"""Documents: the texts that are scored, with the words and bytes that they count for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Join = Literal["document", "corpus"]
Detokenizer = Literal["none", "wikitext"]


@dataclass(frozen=True)
class Document:
    """One text.

    Args:
        name: What it is called: a file, a topic, the number of a row.
        text: What is scored, after the detokenizer.
        words: Words of the raw text, before the detokenizer.
        bytes: UTF-8 bytes of the raw text, before the detokenizer.
        rows: Rows that it was made of.
    """

    name: str
    text: str
    words: int
    bytes: int
    rows: int = 1


def count_words(text: str) -> int:
    r"""Counts words as lm-evaluation-harness does: pieces between runs of white space.

    White space at either end of the text makes one more, empty piece, which counts too.
    """
    return len(re.split(r"\s+", text))


def count_bytes(text: str) -> int:
    """Counts the bytes of the text in UTF-8."""
    return len(text.encode("utf-8"))


def make_documents(
    rows: Iterable[tuple[str, str]],
    *,
    join: Join = "document",
    detokenizer: Detokenizer = "none",
    limit: int | None = None,
) -> list[Document]:
    """Makes documents of rows.

    Args:
        rows: Pairs of name and text; no more of them are read than ``limit`` asks for.
        join: ``document`` makes one document of each row that is not empty; ``corpus`` joins all
            rows, empty ones too, with blank lines into a single document.
        detokenizer: What the text goes through before it is scored. Words and bytes are counted
            before it.
        limit: The most rows to use; None: all.

    Returns:
        The documents, none where there is no text.
    """
    if join == "document":
        kept = islice((row for row in rows if row[1]), limit)
        return [
            Document(name, detokenize(text, detokenizer), count_words(text), count_bytes(text))
            for name, text in kept
        ]
    texts = [text for _, text in islice(rows, limit)]
    if not any(texts):
        return []
    raw = "\n\n".join(texts)
    joined = "\n\n".join(detokenize(text, detokenizer) for text in texts)
    return [Document("corpus", joined, count_words(raw), count_bytes(raw), len(texts))]


def detokenize(text: str, detokenizer: Detokenizer) -> str:
    """Puts the text through the detokenizer of that name."""
    return wikitext_detokenizer(text) if detokenizer == "wikitext" else text


def wikitext_detokenizer(page: str) -> str:
    """Undoes the spacing of WikiText, in every detail as lm-evaluation-harness' task does.

    That includes its slips (a slash, an apostrophe and a digit become the letters of a pattern;
    every lone ``N`` becomes ``1``): published numbers were made with them.
    """
    text = page.replace("s '", "s'")
    text = re.sub("/' [0-9]/", "/'[0-9]/", text)
    for mark in "-,.":
        text = text.replace(f" @{mark}@ ", mark)
    for mark in ":;.!?,":
        text = text.replace(f" {mark} ", f"{mark} ")
    for opening, closing in ("()", "[]", "{}", '""', "''"):
        first, last = re.escape(opening), re.escape(closing)
        inside = rf"{first}\s*([^{last}]*?)\s*{last}"
        text = re.sub(inside, rf"{opening}\1{closing}", text)
    for level in (4, 3, 2):
        text = text.replace(" ".join("=" * level), "=" * level)
    text = text.replace(" ° ", "°")
    text = text.replace(" \n", "\n").replace("\n ", "\n")
    return text.replace(" N ", " 1 ").replace(" 's", "'s")
