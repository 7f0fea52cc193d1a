"""Documents: the texts that are scored, with the words and bytes that they count for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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
        detokenizer: What the text goes through before it is scored.
        limit: The most rows to use; None: all.

    Returns:
        The documents, none where there is no text.
    """
    if join == "document":
        return list(read_documents(rows, detokenizer=detokenizer, limit=limit))
    texts = [text for _, text in islice(rows, limit)]
    return [_document("corpus", texts, detokenizer)] if any(texts) else []


def read_documents(
    rows: Iterable[tuple[str, str]],
    *,
    detokenizer: Detokenizer = "none",
    limit: int | None = None,
) -> Iterator[Document]:
    """Makes a document of each row that is not empty, as it is asked for.

    Args:
        rows: Pairs of name and text; no more of them are read than ``limit`` asks for.
        detokenizer: What the text goes through before it is scored.
        limit: The most rows to use; None: all.
    """
    kept = islice((row for row in rows if row[1]), limit)
    return (_document(name, [text], detokenizer) for name, text in kept)


def _document(name: str, texts: list[str], detokenizer: Detokenizer) -> Document:
    raw = "\n\n".join(texts)
    clean = map(wikitext_detokenizer, texts) if detokenizer == "wikitext" else texts
    return Document(name, "\n\n".join(clean), count_words(raw), len(raw.encode()), len(texts))


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
