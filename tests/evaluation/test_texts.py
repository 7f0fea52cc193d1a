"""Figures and rows of texts against few naive lines and lists written by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from textwrap import dedent
from typing import Any

import pytest

from harness.evaluation.design import Resampling
from harness.evaluation.texts import Written, foreign_metrics, measure_texts, text_rows
from harness.writing.generate import Continuation
from harness.writing.settings import Generation
from tests.tiny import tiny_tokenizer
from tests.writing.continuing import continuations

SETTINGS = Resampling(resamples=200, confidence=0.9)
FIGURES = ["seq_rep_4", "distinct_2", "diversity", "loop_rate", "nll_under_original"]


def nats(text: Sequence[int]) -> float:
    """A likelihood for a text, as if it had been scored."""
    return 0.1 + sum(token % 7 for token in text) / 3


def of(*texts: Sequence[int] | None) -> dict[int, Continuation]:
    """Continuations by number; None is one that could not be written."""
    return {
        number: Continuation((), broken=True)
        if text is None
        else Continuation(tuple(text), nll=nats(text) if text else None)
        for number, text in enumerate(texts)
    }


def grams(text: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def loops(text: Sequence[int]) -> bool:
    for cycle in range(1, len(text) + 1):
        span = max(3 * cycle, 12)
        if span <= len(text):
            end = list(text[-span:])
            if all(end[i] == end[i - cycle] for i in range(cycle, span)):
                return True
    return False


def naive(texts: Sequence[Sequence[int]]) -> dict[str, float]:
    fours = [grams(text, 4) for text in texts if len(text) >= 4]
    share = [
        sum(len(set(grams(t, n))) for t in texts) / sum(len(grams(t, n)) for t in texts)
        for n in (2, 3, 4)
    ]
    return {
        "seq_rep_4": sum(1 - len(set(f)) / len(f) for f in fours) / len(fours),
        "distinct_2": sum(len(set(grams(t, 2))) for t in texts) / sum(map(len, texts)),
        "diversity": math.prod(share),
        "loop_rate": sum(map(loops, texts)) / len(texts),
        "nll_under_original": sum(nats(text) for text in texts if text) / sum(map(len, texts)),
    }


def figures(record: Any) -> dict[str, float | None]:
    return {name: getattr(record, name) for name in FIGURES}


# -- figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_naive_counts(seed: int) -> None:
    ours = continuations(25, seed=seed)
    theirs = [text if k % 3 == 0 else other for k, (text, other) in enumerate(
        zip(ours, continuations(25, seed=seed + 50), strict=True)
    )]  # fmt: skip
    original = measure_texts(of(*theirs), None, SETTINGS)
    assert figures(original) == pytest.approx(naive(theirs), rel=1e-12)
    assert (original.tokens, original.prompts, original.broken) == (sum(map(len, theirs)), 25, 0)
    lengths = [len(text) for text in theirs if text]
    assert original.texts == len(lengths)
    assert original.mean_tokens == pytest.approx(sum(lengths) / len(lengths), rel=1e-12)
    assert original.identical_to_original is original.first_divergence is None
    assert original.delta == original.delta_ci95 == {}
    found = measure_texts(of(*ours), of(*theirs), SETTINGS)
    assert figures(found) == pytest.approx(naive(ours), rel=1e-12)
    differences = {name: naive(ours)[name] - naive(theirs)[name] for name in FIGURES}
    told = [pair for pair in zip(ours, theirs, strict=True) if all(pair)]
    one, other = (naive([pair[side] for pair in told]) for side in (0, 1))
    differences["nll_under_original"] = one["nll_under_original"] - other["nll_under_original"]
    assert found.delta == pytest.approx(differences, rel=1e-9, abs=1e-12)
    for name in FIGURES:
        low, high = found.ci95[name]
        assert low <= getattr(found, name) <= high
        low, high = found.delta_ci95[name]
        assert low < found.delta[name] < high
    assert found.identical_to_original == sum(
        a == b for a, b in zip(ours, theirs, strict=True)
    ) / len(ours)


def test_where_texts_part() -> None:
    original = of([1, 2, 3], [1, 2, 3], [1, 2, 3], [], [5], [1, 2])
    variant = of([1, 2, 3], [1, 9, 3], [1, 2], [], [], [1, 2, 3])
    points = [1, 2, 0, 2]  # of the second, third, fifth and sixth
    found = measure_texts(variant, original, SETTINGS)
    assert found.identical_to_original == pytest.approx(2 / 6, rel=1e-12)
    assert found.first_divergence == median(points) == 1.5
    same = measure_texts(original, original, SETTINGS)
    assert (same.identical_to_original, same.first_divergence) == (1.0, None)
    # No text is long enough for a 4-gram.
    nothing = {"seq_rep_4": None, "diversity": None}
    some = ("distinct_2", "loop_rate", "nll_under_original")
    assert same.delta == nothing | dict.fromkeys(some, 0.0)
    assert same.delta_ci95 == dict.fromkeys([*FIGURES, "nll_under_original"])


def test_broken_prompts_are_left_out_of_pairs() -> None:
    texts = [text for text in continuations(30, seed=9) if len(text) >= 5]
    ours, theirs = texts[:8], texts[8:16]
    broken = measure_texts(
        of(*ours[:6], None, ours[7]), of(None, *theirs[1:7], theirs[7]), SETTINGS
    )
    # Its own figures are of all that it wrote; pairs are of what both did.
    own = [*ours[:6], ours[7]]
    assert figures(broken) == pytest.approx(naive(own), rel=1e-12)
    assert (broken.tokens, broken.prompts, broken.broken) == (sum(map(len, own)), 8, 1)
    both = [1, 2, 3, 4, 5, 7]
    clean = measure_texts(of(*(ours[k] for k in both)), of(*(theirs[k] for k in both)), SETTINGS)
    assert broken.delta == clean.delta
    assert broken.delta_ci95 == clean.delta_ci95
    assert broken.first_divergence == clean.first_divergence
    assert broken.identical_to_original == clean.identical_to_original


def test_what_wrote_nothing_has_no_figures() -> None:
    found = measure_texts(of(None, None), of([1], [2, 3]), SETTINGS)
    assert figures(found) == dict.fromkeys(FIGURES)
    assert (found.tokens, found.prompts, found.broken) == (0, 2, 2)
    assert found.identical_to_original is found.first_divergence is None
    assert found.delta == found.ci95 == found.delta_ci95 == dict.fromkeys(FIGURES)
    assert (found.texts, found.mean_tokens) == (0, None)
    # Empty texts are texts, but none that figures could be of.
    empty = measure_texts(of([], []), of([], [1]), SETTINGS)
    some = measure_texts(of([], [1, 2], [], [3], None), None, SETTINGS)
    assert (some.texts, some.mean_tokens, some.prompts) == (2, 1.5, 5)
    assert some.nll_under_original == pytest.approx((nats([1, 2]) + nats([3])) / 3, rel=1e-12)
    assert (empty.tokens, empty.broken, empty.loop_rate) == (0, 0, 0.0)
    assert (empty.texts, empty.mean_tokens, empty.nll_under_original) == (0, None, None)
    assert empty.seq_rep_4 is empty.distinct_2 is empty.diversity is None
    assert (empty.identical_to_original, empty.first_divergence) == (0.5, 0.0)


@pytest.mark.parametrize("value", [None, math.inf, math.nan])
def test_a_likelihood_that_is_none_or_not_finite_is_left_unknown(value: float | None) -> None:
    original = of([1, 2, 3], [4, 5])
    texts = original | {1: Continuation((4, 5, 6), nll=value)}
    found = measure_texts(texts, original, SETTINGS)
    assert found.nll_under_original is found.ci95["nll_under_original"] is None
    assert found.delta["nll_under_original"] is found.delta_ci95["nll_under_original"] is None
    assert found.distinct_2 is not None
    rows = list(text_rows({"original": original, "b": texts}, ["x", "y"], "original", str))
    means = [row["nll_under_original"] for row in rows]
    assert means == [nats([1, 2, 3]) / 3, nats([1, 2, 3]) / 3, nats([4, 5]) / 2, None]


def test_the_order_of_arrival_is_of_no_account() -> None:
    texts = of(*continuations(12, seed=3))
    backwards = dict(reversed(texts.items()))
    assert measure_texts(backwards, texts, SETTINGS) == measure_texts(texts, texts, SETTINGS)


# -- rows --------------------------------------------------------------------------------------

TOKENIZER = tiny_tokenizer()


def decode(tokens: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(tokens), skip_special_tokens=True))


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text)["input_ids"])


def rows_of(original: Sequence[int] | None, variant: Sequence[int] | None) -> list[dict[str, Any]]:
    texts: dict[str, Written] = {"original": of(original), "b": of(variant)}
    return list(text_rows(texts, ["Say"], "original", decode))


def test_a_row_per_prompt_and_variant() -> None:
    texts: dict[str, Written] = {
        "original": of(ids("good day"), ids("you"), None),
        "b": of(ids("good bye"), ids("you"), ids("x")),
    }
    rows = list(text_rows(texts, ["One", "Two", "Three"], "original", decode))
    keys = ["prompt_number", "prompt", "variant", "text", "broken"]
    keys += ["diverges_at", "diverges_at_character"]
    assert [[row[key] for key in keys] for row in rows] == [
        [0, "One", "original", "good day", False, None, None],
        [0, "One", "b", "good bye", False, 5, 5],
        [1, "Two", "original", "you", False, None, None],
        [1, "Two", "b", "you", False, None, None],
        [2, "Three", "original", "", True, None, None],
        [2, "Three", "b", "x", False, 0, 0],
    ]
    assert rows[1]["tokens"] == ids("good bye")
    assert json.loads(json.dumps(rows)) == rows


def test_only_prompts_that_were_reached_have_rows() -> None:
    texts: dict[str, Written] = {"original": {2: Continuation((1,)), 0: Continuation((2,))}}
    texts["b"] = dict(texts["original"])
    rows = list(text_rows(texts, ["a", "b", "c"], "original", decode))
    assert [(row["prompt_number"], row["prompt"]) for row in rows] == [
        (0, "a"), (0, "a"), (2, "c"), (2, "c")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("original", "variant", "token", "character"),
    [
        ("aé", "aü", 2, 1),  # one token of two in common: the letter is not
        ("日本語", "日木語", 5, 1),
        ("x😀", "x😁", 4, 1),
        ("é", "éa", 2, 1),
        ("éa", "é", 2, 1),
        ("ab", "ab", None, None),
        ("", "a", 0, 0),
    ],
)
def test_a_letter_of_several_tokens_departs_as_a_whole(
    original: str, variant: str, token: int | None, character: int | None
) -> None:
    row = rows_of(ids(original), ids(variant))[1]
    assert row["text"] == variant
    assert (row["diverges_at"], row["diverges_at_character"]) == (token, character)


def test_half_a_letter_belongs_to_what_departs() -> None:
    half = ids("aé")[:2]
    for variant in (half, [*half, *ids("x")]):
        row = rows_of(ids("aé"), variant)[1]
        assert row["text"].startswith("a\ufffd")
        assert (row["diverges_at"], row["diverges_at_character"]) == (2, 1)
    other = rows_of([*half, *ids("x")], [*half, *ids("y")])[1]
    # Both hold the same half, and depart after it.
    assert (other["diverges_at"], other["diverges_at_character"]) == (2, 2)


def test_special_tokens_are_not_in_the_text() -> None:
    row = rows_of([*ids("a"), 256, *ids("b")], [*ids("a"), 256, *ids("c")])[1]
    assert row["text"] == "ac"
    assert (row["diverges_at"], row["diverges_at_character"]) == (2, 1)


# -- metrics of others -------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a metric that needs references and returns an expression; gives its path."""

    def write(name: str, returned: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(
            dedent(f"""
            import evaluate
            from datasets import Features, Value

            class Local(evaluate.Metric):
                def _info(self):
                    kind = Value("string")
                    return evaluate.MetricInfo(
                        description="", citation="",
                        features=Features(predictions=kind, references=kind),
                    )

                def _compute(self, predictions, references):
                    return {returned}
            """)
        )
        return str(path)

    return write


def test_a_metric_gets_the_originals_texts_as_references(script: Any) -> None:
    same = "{'same': [p == r for p, r in zip(predictions, references)], 'n': len(predictions)}"
    settings = Generation(metrics=[script("same_as", same), "loop_rate"])
    texts = {
        "original": {0: "a", 1: "b", 2: "c", 3: "d"},
        "b": {3: "d", 1: "x", 2: "c"},  # the first could not be written
    }
    found, problems = foreign_metrics(settings.load_metrics("key", trusted=True), texts, "original")
    assert problems == []
    assert found["original"] == {"same": 1.0, "n": 4.0, "loop_rate": 0.0}
    assert found["b"] == {"same": pytest.approx(2 / 3), "n": 3.0, "loop_rate": 0.0}


def test_a_metric_that_fails_is_a_warning_for_each_model(script: Any) -> None:
    failing = "{'x': 1 / (predictions == references and 1 or 0)}"
    settings = Generation(metrics=[script("fails", failing)])
    texts = {"original": {0: "a"}, "b": {0: "x"}, "c": dict[int, str]()}
    found, problems = foreign_metrics(settings.load_metrics("key", trusted=True), texts, "original")
    assert found == {"original": {"x": 1.0}, "b": {}, "c": {}}
    assert problems == ["b: local failed: ZeroDivisionError: division by zero."]


def test_without_metrics_there_are_no_figures() -> None:
    assert foreign_metrics([], {"original": {0: "a"}}, "original") == ({"original": {}}, [])
