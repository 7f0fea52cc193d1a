"""Tokens, units and records of a corpus, against what is counted by hand."""

from __future__ import annotations

import logging

import pytest

from harness.data.corpus import build_corpus
from harness.data.documents import make_documents
from harness.data.encoding import encode, resolve_bos
from harness.data.pages import Cutter
from harness.data.sources import Reading
from harness.data.windows import Layout
from harness.errors import ConfigError
from tests.data.conftest import Source, tokenizer_adding_bos, words_alone
from tests.tiny import tiny_tokenizer

BOS, EOS, PAD = 256, 257, 258


def build(texts, layout, *, join="document", tokenizer=None, batch_size=2, vocabulary=260):
    rows = ((f"d{i}", text) for i, text in enumerate(texts))
    source = Source(tokenizer or tiny_tokenizer(), vocabulary=vocabulary)
    cutter = Cutter(Reading(iter(()), "all"), source, layout, join, batch_size, "texts")
    return build_corpus(make_documents(rows, join=join), cutter)


def bos(policy, tokenizer, vocabulary=260):
    return resolve_bos(policy, Source(tokenizer, vocabulary=vocabulary))


def test_a_tokenizer_of_a_larger_vocabulary_is_refused():
    layout = Layout("rolling", 16, 16, "none")
    z = tiny_tokenizer()("z")["input_ids"][-1]
    with pytest.raises(ConfigError, match=f"makes id {z} of the text, where the model has {z} tok"):
        build(["abc", "", "xyz"], layout, vocabulary=z)
    # What it knows beside, but does not use, is nobody's harm.
    assert build(["abc", "xyz"], layout, vocabulary=z + 1).record.tokens == 4


def test_a_tokenizer_that_fails_names_the_text():
    tokenizer = words_alone()
    assert [ids.tolist() for ids in encode(tokenizer, ["known words", "", "words"])] == [
        [0, 1],
        [],
        [1],
    ]
    with pytest.raises(ConfigError, match=r"fails on the text that begins 'known else': ") as error:
        encode(tokenizer, ["known"] * 300 + ["known else"])
    assert error.value.key == "model.tokenizer"
    assert "\n" not in str(error.value)


def test_a_bos_beyond_the_embeddings_is_refused_where_it_would_be_used():
    tokenizer = tokenizer_adding_bos()
    for policy in ("auto", "start", "window"):
        with pytest.raises(ConfigError) as error:
            bos(policy, tokenizer, BOS)
        assert str(error.value) == (
            f"data.bos='{policy}': the token has id 256, where the model has 256 tokens; use none"
        )
        assert bos(policy, tokenizer, BOS + 1) == ("window" if policy == "auto" else policy)
    assert bos("none", tokenizer, BOS) == "none"


def test_a_pad_id_beyond_the_embeddings_is_not_used():
    layout = Layout("rolling", 4, 4, "none")
    padded = build(["abcd", "ab"], layout, vocabulary=PAD).rows[(0, [0, 1])]
    assert padded.input_ids[1].tolist()[1:] == [0, 0]


def test_documents_with_the_same_text_are_the_same_evidence():
    texts = ["abcdef", "xy", "abcdef", "", "abcde", "xy", "xy"]
    corpus = build(texts, Layout("rolling", 4, 4, "start"))
    assert [unit.name for unit in corpus.units] == ["d0", "d1", "d2", "d4", "d5", "d6"]
    assert [unit.same_as for unit in corpus.units] == [0, 1, 0, 3, 1, 1]
    # What is dropped behind the last chunk tells nothing apart, as it is not scored.
    chunks = build(["abcd1", "abcd2", "abcd"], Layout("chunks", 4, 4, "none"))
    assert [unit.same_as for unit in chunks.units] == [0, 0, 0]


def test_the_same_ids_cut_otherwise_are_other_evidence():
    # "aaaa" twice in a row scores as many ids, but after other ones.
    corpus = build(["aaaa", "aaaaaaaa"], Layout("rolling", 4, 4, "start"))
    assert [unit.same_as for unit in corpus.units] == [0, 1]


def test_blocks_with_the_same_text_are_the_same_evidence():
    layout = Layout("chunks", 4, 4, "none")
    corpus = build(["abcdefgh" * 3 + "zzzz"], layout, join="corpus")
    # 7 windows, two to a block: "abcdefgh" three times, and what is left.
    assert [unit.name for unit in corpus.units][:2] == ["windows 0-1", "windows 2-3"]
    assert [unit.same_as for unit in corpus.units] == [0, 0, 0, 3]


def test_bos_by_policy():
    plain, adding, without = tiny_tokenizer(), tokenizer_adding_bos(), tiny_tokenizer(special=False)
    assert bos("auto", plain) == "start"
    assert bos("auto", adding) == "window"
    assert bos("auto", without) == "none"
    assert bos("window", plain) == "window"
    assert bos("start", adding) == "start"
    assert bos("none", adding) == "none"


def test_eos_stands_in_for_bos():
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    for policy in ("auto", "window"):
        place = bos(policy, tokenizer, None)
        assert place == ("start" if policy == "auto" else policy)
        corpus = build(["ab"], Layout("rolling", 4, 4, place), tokenizer=tokenizer)
        assert corpus.rows[(0, [0])].input_ids[0, 0] == EOS


@pytest.mark.parametrize("policy", ["start", "window"])
def test_a_bos_that_does_not_exist_is_refused(policy):
    with pytest.raises(ConfigError, match=rf"^data\.bos='{policy}': .* neither a BOS nor an EOS"):
        bos(policy, tiny_tokenizer(special=False))


def test_tokenizers_add_nothing_and_do_not_warn(caplog):
    tokenizer = tokenizer_adding_bos()
    tokenizer.model_max_length = 4
    with caplog.at_level(logging.WARNING):
        ids = encode(tokenizer, ["abcdefgh", "", *["x"] * 300])
    assert [len(each) for each in ids] == [8, 0] + [1] * 300
    assert tokenizer.decode(ids[0]) == "abcdefgh"
    assert not caplog.records


def test_documents_are_the_units():
    corpus = build(["abcdef", "", "é", "xy"], Layout("rolling", 4, 4, "start"))
    assert [(u.name, u.tokens, u.words, u.bytes) for u in corpus.units] == [
        ("d0", 6, 1, 6),
        ("d2", 2, 1, 2),
        ("d3", 2, 1, 2),
    ]
    assert [window.document for window in corpus.windows] == [0, 0, 1, 2]
    record = corpus.record
    assert (record.documents, record.windows, record.tokens) == (3, 4, 10)
    assert (record.words, record.bytes) == (3, 10)
    # The lengths are 4, 4, 2, 2, the number of windows in a batch 2.
    assert corpus.plan == [[0, 1], [2, 3]]
    batch = corpus.rows[(0, corpus.plan[0])]
    assert batch.units.tolist() == [0, 0]
    assert corpus.rows[(1, corpus.plan[1])].units.tolist() == [1, 2]
    assert batch.input_ids[0].tolist()[0] == BOS


def test_what_is_not_covered_has_no_words():
    corpus = build(["abcdef", "xy"], Layout("rolling", 4, 4, "none"))
    assert corpus.record.words is None
    assert [(u.tokens, u.words, u.bytes) for u in corpus.units] == [
        (5, None, None),
        (1, None, None),
    ]
    assert (corpus.record.words, corpus.record.bytes) == (None, None)


def test_a_document_too_short_to_score_uncovers_the_corpus():
    corpus = build(["abc", "x"], Layout("chunks", 3, 3, "none"))
    assert [unit.name for unit in corpus.units] == ["d0"]
    assert corpus.record.documents == 1
    assert corpus.record.words is None
    # With a BOS in front, "ab" and "x" fill a row of three ids and of two.
    assert build(["ab"], Layout("chunks", 3, 3, "start")).record.words == 1


def test_blocks_of_windows_are_the_units_of_a_joined_corpus():
    corpus = build(["abcdefg", "", "hij"], Layout("rolling", 2, 2, "start"), join="corpus")
    # 14 ids ("abcdefg", two blank lines, "hij") make 7 windows, two to a block, as 7 ** (1/3) < 2.
    assert [(u.name, u.tokens, u.words, u.bytes) for u in corpus.units] == [
        ("windows 0-1", 4, None, None),
        ("windows 2-3", 4, None, None),
        ("windows 4-5", 4, None, None),
        ("windows 6-6", 2, None, None),
    ]
    assert corpus.rows[(0, list(range(7)))].units.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert (corpus.record.documents, corpus.record.tokens) == (3, 14)
    assert (corpus.record.words, corpus.record.bytes) == (2, 14)


def test_the_pad_token_fills_rows_up_or_else_zero():
    layout = Layout("rolling", 4, 4, "none")
    padded = build(["abcd", "ab"], layout).rows[(0, [0, 1])]
    assert padded.input_ids[1].tolist()[1:] == [PAD, PAD]
    without = build(["abcd", "ab"], layout, tokenizer=tiny_tokenizer(special=False))
    assert without.rows[(0, [0, 1])].input_ids[1].tolist()[1:] == [0, 0]


def test_too_short_to_score():
    with pytest.raises(ConfigError, match=r"^data\.max_length=8: .*\(5 tokens in all\)"):
        build(["abc", "de"], Layout("chunks", 8, 8, "none"))


def test_no_text_at_all():
    with pytest.raises(ConfigError, match=r"^data\.dataset='texts': no text in it \(split all\)$"):
        build(["", ""], Layout("rolling", 8, 8, "none"))
