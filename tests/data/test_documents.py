"""Documents, their words and bytes, and the detokenizer, against strings written by hand."""

from __future__ import annotations

import pytest

from harness.data.documents import count_words, make_documents, wikitext_detokenizer


@pytest.mark.parametrize(
    ("text", "words"), [("", 1), ("a", 1), ("a b", 2), (" a\n\tb ", 4), ("\n", 2), ("a\u00a0b", 2)]
)
def test_words_are_counted_with_empty_pieces(text, words):
    assert count_words(text) == words


def test_documents_skip_empty_rows_and_keep_names():
    documents = make_documents(iter([("0", "a b"), ("1", ""), ("2", "é"), ("3", "c")]), limit=2)
    assert [(d.name, d.text, d.words, d.bytes, d.rows) for d in documents] == [
        ("0", "a b", 2, 3, 1),
        ("2", "é", 1, 2, 1),
    ]


def test_a_corpus_keeps_empty_rows():
    rows = [("0", ""), ("1", "a , b"), ("2", ""), ("3", "c")]
    (corpus,) = make_documents(iter(rows), join="corpus", detokenizer="wikitext", limit=3)
    assert corpus.text == "\n\na, b\n\n"
    assert corpus.words == count_words("\n\na , b\n\n") == 5
    assert (corpus.bytes, corpus.rows) == (9, 3)


def test_nothing_but_empty_rows_is_no_document():
    assert make_documents(iter([("0", "")])) == []
    assert make_documents(iter([("0", ""), ("1", "")]), join="corpus") == []


def test_words_and_bytes_are_counted_before_the_detokenizer():
    (document,) = make_documents(iter([("0", "1 @,@ 000 men")]), detokenizer="wikitext")
    assert (document.text, document.words, document.bytes) == ("1,000 men", 4, 13)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("the boys ' club", "the boys' club"),
        ("it is John 's", "it is John's"),
        ("well @-@ known , 1 @,@ 000 @.@ 5", "well-known, 1,000.5"),
        ("a : b ; c . d ! e ? f , g", "a: b; c. d! e? f, g"),
        ("no mark at the end .", "no mark at the end ."),
        ("( in round ) [ square ] { curly }", "(in round) [square] {curly}"),
        ('he said " no " twice', 'he said "no" twice'),
        ("the ' inner ' quote", "the 'inner' quote"),
        (" = Title = \n", " = Title =\n"),
        (" = = Part = = \n text", " == Part ==\ntext"),
        ("= = = x = = =", "=== x ==="),
        ("= = = = x = = = =", "==== x ===="),
        ("= = = = =", "====="),
        ("20 ° C", "20°C"),
        ("a \n b\nc", "a\nb\nc"),
        ("N rows of N and No", "N rows of 1 and No"),
        ("x /' 5/ y", "x /'[0-9]/ y"),
        ("", ""),
    ],
)
def test_wikitext_detokenizer(page, expected):
    assert wikitext_detokenizer(page) == expected
