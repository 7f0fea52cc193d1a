"""The embedded tokenizer: lossless, one BOS by itself, fit for code."""

import pytest

from harness.demo import MODEL_FOLDER
from harness.demo.corpus import documents
from harness.demo.tokenizer import VOCABULARY, build_tokenizer

TEXTS = [
    "",
    " ",
    "\n",
    "  leading and trailing  ",
    "a\n\n\n    def f(x):\n\treturn x\r\n",
    "it 's  a . b ,c !  do n't",
    "naïve — “quoted” … 日本語 🐍\u200b",
    "\x00\x1b",
]


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids[1:]) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_round_trip_of_whole_documents(tokenizer):
    for _, text in documents("validation"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_one_bos_by_itself(tokenizer):
    ids = tokenizer("for x in y")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer("for x in y", add_special_tokens=False)["input_ids"] == ids[1:]


def test_special_tokens(tokenizer):
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == [
        "<bos>",
        "<eos>",
        "<pad>",
    ]
    assert len(tokenizer) == VOCABULARY


def test_code_is_compact(tokenizer):
    line = "        return self.name"
    assert len(tokenizer(line, add_special_tokens=False)["input_ids"]) <= 5
    texts = [text for _, text in documents("validation")]
    tokens = sum(len(tokenizer(text)["input_ids"]) for text in texts)
    assert sum(map(len, texts)) / tokens > 3.0


def test_the_same_texts_give_the_same_tokenizer():
    texts = [text for _, text in documents("validation")]
    built = [build_tokenizer(texts).backend_tokenizer.to_str() for _ in range(2)]
    assert built[0] == built[1]


def test_a_tokenizer_just_built_is_lossless_too():
    tokenizer = build_tokenizer(["a b\n", "    x = 1\n"])
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
