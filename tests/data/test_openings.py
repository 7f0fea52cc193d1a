"""Openings begin their paragraphs, whatever a tokenizer does to characters and spaces."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from harness.data.documents import Document
from harness.data.openings import openings
from tests.data.conftest import tokenizer_adding_bos
from tests.tiny import tiny_tokenizer

TEXTS = [
    "東京都の天気は晴れです。" * 9,
    "a" + "東京都の天気は晴れです。" * 9,
    "ab" + "東京都の天気は晴れです。" * 9,
    "Füße, naïve Größe — ‘wirklich’ " * 9,
    "👩‍👩‍👧 family, 😀 emoji and text " * 9,
    "Mixed  spaces ,  and\ttabs\nover lines . " * 9,
]


def words(**options: Any) -> Any:
    """A tokenizer of words with their spaces in front, and bytes for what it does not know."""
    vocabulary = {"<unk>": 0, "▁Mixed": 1, "▁family": 2, "▁": 3}
    vocabulary |= {f"<0x{byte:02X}>": 4 + byte for byte in range(256)}
    bare = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    bare.normalizer = options.get("normalizer")
    bare.pre_tokenizer = pre_tokenizers.Metaspace()
    bare.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=bare, clean_up_tokenization_spaces=True)


def slow(tokenizer: Any) -> Any:
    """The same without offsets, as tokenizers written in Python are."""

    class Slow:
        is_fast = False

        def __call__(self, text: str, **options: Any) -> Any:
            assert not options.pop("return_offsets_mapping")
            return tokenizer(text, **options)

        def decode(self, ids: list[int]) -> str:
            return tokenizer.decode(ids)

    return Slow()


TOKENIZERS = {
    "bytes": tiny_tokenizer,
    "with a BOS": tokenizer_adding_bos,
    "words": words,
    "folded": lambda: words(normalizer=normalizers.NFKC()),
    "slow bytes": lambda: slow(tiny_tokenizer()),
    "slow words": lambda: slow(words()),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_an_opening_begins_its_paragraph(kind, text):
    (opening,) = openings([Document("a", f"\n{text}\n\nshort", 1, 1)], TOKENIZERS[kind]())
    assert opening
    assert text.startswith(opening)
    assert "\ufffd" not in opening


def test_an_opening_ends_before_a_character_that_is_cut():
    # Sixteen bytes are one letter and five characters of three bytes, or one more letter and four.
    for letters, characters in (("a", 5), ("ab", 4), ("abc", 4), ("abcd", 4), ("abcde", 3)):
        text = letters + "東京都の天気は" * 9
        assert openings([Document("a", text, 1, 1)], tiny_tokenizer()) == [
            text[: len(letters) + characters]
        ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_separate_paragraphs_however_lines_end(end):
    first, second, third = ("x" * 40, "y" * 20 + end + "y" * 20, "z" * 40)
    text = f"{first}{end}{end}{second}{end}{end}{end}{third}{end}"
    found = openings([Document("a", text, 1, 1)], tiny_tokenizer())
    assert found == ["x" * 16, "y" * 16, "z" * 16]


def test_a_paragraph_of_one_character_that_is_never_whole():
    # A character of sixteen tokens and more: there is no opening that begins with less of it.
    class Whole:
        is_fast = True

        def __call__(self, text: str, **options: Any) -> Any:
            return {"input_ids": [0] * 40, "offset_mapping": [(0, 1)] * 40}

    assert openings([Document("a", "x" * 40, 1, 1)], Whole()) == []


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 1000])
def test_openings_are_spread_over_the_text(count):
    documents = [Document("a", f"{k:04d} {'word ' * 10}", 1, 1) for k in range(count)]
    found = openings(documents, tiny_tokenizer())
    numbers = [int(text[:4]) for text in found]
    assert len(numbers) == min(count, 64)
    assert numbers == sorted(set(numbers))
    steps = {after - before for before, after in pairwise(numbers)}
    assert steps <= {count // 64, count // 64 + 1, 1}
    assert numbers[0] == 0
    assert numbers[-1] >= count - count // 64 - 1
