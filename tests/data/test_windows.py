"""Windows against lists written by hand and against the loops they are named after."""

from __future__ import annotations

import random

import pytest
import torch

from harness.data.windows import Layout

B = 99  # stands for BOS in the lists below


def rows(kind: str, n: int, max_length: int, stride: int, bos: str) -> list[tuple[list[int], int]]:
    """Ids of each row and how many at its end are scored, for the text 0, 1, ..., n - 1."""
    tokens = torch.arange(n, dtype=torch.int32)
    windows = Layout(kind, max_length, stride, bos).cut(n)
    return [(window.row(tokens, B).tolist(), window.scored) for window in windows]


HAND = [
    # rolling without overlap: shorter than a window, exactly one, one token over, one token, none
    ("rolling", 3, 4, 4, "start", [([B, 0, 1, 2], 3)]),
    ("rolling", 4, 4, 4, "start", [([B, 0, 1, 2, 3], 4)]),
    ("rolling", 5, 4, 4, "start", [([B, 0, 1, 2, 3], 4), ([0, 1, 2, 3, 4], 1)]),
    ("rolling", 1, 4, 4, "start", [([B, 0], 1)]),
    ("rolling", 0, 4, 4, "start", []),
    (
        "rolling",
        10,
        4,
        4,
        "start",
        [([B, 0, 1, 2, 3], 4), ([3, 4, 5, 6, 7], 4), ([5, 6, 7, 8, 9], 2)],
    ),
    # the example in lm-evaluation-harness' own docstring: max_seq_len 3, context_len 2
    (
        "rolling",
        9,
        3,
        2,
        "start",
        [([B, 0, 1, 2], 3), ([1, 2, 3, 4], 2), ([3, 4, 5, 6], 2), ([5, 6, 7, 8], 2)],
    ),
    ("rolling", 5, 4, 4, "none", [([0, 1, 2, 3, 4], 4)]),
    ("rolling", 6, 4, 4, "none", [([0, 1, 2, 3, 4], 4), ([1, 2, 3, 4, 5], 1)]),
    ("rolling", 1, 4, 4, "none", []),
    ("rolling", 2, 4, 4, "none", [([0, 1], 1)]),
    ("rolling", 4, 4, 4, "window", [([B, 0, 1, 2, 3], 4)]),
    ("rolling", 5, 4, 4, "window", [([B, 0, 1, 2, 3], 4), ([B, 1, 2, 3, 4], 1)]),
    ("rolling", 1, 4, 4, "window", [([B, 0], 1)]),
    (
        "rolling",
        9,
        4,
        2,
        "window",
        [
            ([B, 0, 1, 2, 3], 4),
            ([B, 2, 3, 4, 5], 2),
            ([B, 4, 5, 6, 7], 2),
            ([B, 5, 6, 7, 8], 1),
        ],
    ),
    # strided: overlap is context, the last row is short
    ("strided", 3, 4, 2, "none", [([0, 1, 2], 2)]),
    ("strided", 4, 4, 2, "none", [([0, 1, 2, 3], 3)]),
    ("strided", 5, 4, 2, "none", [([0, 1, 2, 3], 3), ([2, 3, 4], 1)]),
    ("strided", 7, 4, 2, "none", [([0, 1, 2, 3], 3), ([2, 3, 4, 5], 2), ([4, 5, 6], 1)]),
    ("strided", 1, 4, 2, "none", []),
    ("strided", 0, 4, 2, "none", []),
    ("strided", 6, 4, 4, "none", [([0, 1, 2, 3], 3), ([4, 5], 1)]),
    ("strided", 5, 4, 4, "none", [([0, 1, 2, 3], 3)]),
    ("strided", 4, 4, 2, "start", [([B, 0, 1, 2], 3), ([1, 2, 3], 1)]),
    ("strided", 1, 4, 2, "start", [([B, 0], 1)]),
    ("strided", 3, 4, 4, "window", [([B, 0, 1, 2], 3)]),
    ("strided", 4, 4, 4, "window", [([B, 0, 1, 2], 3), ([B, 3], 1)]),
    ("strided", 5, 4, 2, "window", [([B, 0, 1, 2], 3), ([B, 2, 3, 4], 2)]),
    # chunks: the remainder is dropped
    ("chunks", 3, 4, 4, "none", []),
    ("chunks", 4, 4, 4, "none", [([0, 1, 2, 3], 3)]),
    ("chunks", 9, 4, 4, "none", [([0, 1, 2, 3], 3), ([4, 5, 6, 7], 3)]),
    ("chunks", 3, 4, 4, "start", [([B, 0, 1, 2], 3)]),
    ("chunks", 7, 4, 4, "start", [([B, 0, 1, 2], 3), ([3, 4, 5, 6], 3)]),
    ("chunks", 7, 4, 4, "window", [([B, 0, 1, 2], 3), ([B, 3, 4, 5], 3)]),
    ("chunks", 0, 4, 4, "window", []),
    ("chunks", 2, 2, 2, "window", [([B, 0], 1), ([B, 1], 1)]),
]


@pytest.mark.parametrize(("kind", "n", "max_length", "stride", "bos", "expected"), HAND)
def test_by_hand(kind, n, max_length, stride, bos, expected):
    assert rows(kind, n, max_length, stride, bos) == expected


def lm_eval(tokens: list[int], prefix: int, length: int, context: int):
    """The rolling rule of lm-evaluation-harness: (ids with the last target, number scored)."""
    done = min(length, len(tokens))
    found = [([prefix, *tokens[:done]], done)] if tokens else []
    while done < len(tokens):
        end = min(done + length - context + 1, len(tokens))
        inputs, targets = tokens[end - length - 1 : end - 1], tokens[done:end]
        found.append((inputs + targets[-1:], len(targets)))
        done = end
    return found


def transformers_page(tokens: list[int], length: int, stride: int):
    """The loop of the perplexity page, with the labels that survive the model's shift."""
    found, previous = [], 0
    for begin in range(0, len(tokens), stride):
        end = min(begin + length, len(tokens))
        labels = list(tokens[begin:end])
        labels[: len(labels) - (end - previous)] = [-100] * (len(labels) - (end - previous))
        scored = sum(label != -100 for label in labels[1:])
        if scored:
            found.append((tokens[begin:end], scored))
        previous = end
        if end == len(tokens):
            break
    return found


def gptq(tokens: list[int], length: int):
    count = len(tokens) // length
    return [(tokens[i * length : (i + 1) * length], length - 1) for i in range(count)]


def sizes(seed: int, times: int = 300):
    draw = random.Random(seed)
    for _ in range(times):
        length = draw.randint(2, 12)
        yield draw.randint(1, 60), length, draw.randint(1, length)


def test_rolling_is_that_of_lm_eval():
    for n, length, stride in sizes(0):
        expected = lm_eval(list(range(n)), B, length, length - stride + 1)
        assert rows("rolling", n, length, stride, "start") == expected


def test_strided_is_that_of_the_transformers_page():
    for n, length, stride in sizes(1):
        expected = transformers_page(list(range(n)), length, stride)
        assert rows("strided", n, length, stride, "none") == expected
        with_bos = transformers_page([B, *range(n)], length, stride)
        assert rows("strided", n, length, stride, "start") == with_bos


def test_chunks_are_those_of_gptq():
    for n, length, _ in sizes(2):
        assert rows("chunks", n, length, length, "none") == gptq(list(range(n)), length)
        assert rows("chunks", n, length, length, "start") == gptq([B, *range(n)], length)


@pytest.mark.parametrize("bos", ["window", "start", "none"])
@pytest.mark.parametrize("kind", ["rolling", "strided", "chunks"])
def test_each_token_once_and_rows_fit(kind, bos):
    for n, length, stride in sizes(3):
        windows = Layout(kind, length, stride, bos).cut(n, document=7)
        scored = [i for w in windows for i in range(w.stop - w.scored, w.stop)]
        assert len(scored) == len(set(scored))
        assert scored == sorted(scored)
        assert all(w.length <= length and w.scored >= 1 and w.document == 7 for w in windows)
        everything = kind == "rolling" or (kind == "strided" and (stride < length))
        if bos == "window" and kind != "chunks":
            assert scored == list(range(n))
        elif everything:
            assert scored == list(range(0 if bos == "start" else 1, n))


def test_context_is_never_shorter_than_promised():
    for n, length, stride in sizes(4):
        for window in Layout("rolling", length, stride, "start").cut(n)[1:]:
            assert window.length == length
            assert window.length - window.scored >= length - stride
