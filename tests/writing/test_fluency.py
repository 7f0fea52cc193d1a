"""Texts scored by the original against a loop in fp64 without padding, batch or chunks."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.models.head import ChunkedHead
from harness.writing import fluency
from harness.writing.fluency import under_original
from harness.writing.generate import Continuation, generate_batch
from tests.tiny import FAMILIES, tiny_model
from tests.writing.test_generate import GREEDY, PAD, padded, patch_for, prompts_of

Texts = Mapping[str, Sequence[Continuation]]


def random_texts(seed: int, rows: int = 5) -> list[Continuation]:
    rng = random.Random(seed)
    return [
        Continuation(tuple(rng.randrange(250) for _ in range(rng.randint(1, 9))))
        for _ in range(rows)
    ]


def scored(model: PreTrainedModel, texts: Texts) -> dict[str, list[Continuation]]:
    return under_original(ChunkedHead(model), *padded(prompts_of()), texts)


@torch.no_grad()
def naive(model: PreTrainedModel, prompt: Sequence[int], text: Sequence[int]) -> float:
    ids = list(prompt)
    total = 0.0
    for token in text:
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[token])
        ids.append(token)
    return total


def sums(texts: Sequence[Continuation]) -> list[float | None]:
    return [text.nll for text in texts]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_scored_after_its_prompt(family: str) -> None:
    model = tiny_model(family)
    texts = {"original": random_texts(1), "a": random_texts(2)}
    found = scored(model, texts)
    for name, continuations in texts.items():
        expected = [
            naive(model, prompt, text.tokens)
            for prompt, text in zip(prompts_of(), continuations, strict=True)
        ]
        assert sums(found[name]) == pytest.approx(expected, rel=1e-5)
        assert [text._replace(nll=None) for text in found[name]] == continuations


def test_texts_without_tokens_have_no_score() -> None:
    one, two, *_ = random_texts(3)
    none, broken = Continuation(()), Continuation((), broken=True)
    texts = [one, none, two, broken, none]
    found = scored(tiny_model("llama"), {"original": texts, "a": [none, broken] * 2 + [none]})
    assert [text.nll is None for text in found["original"]] == [not t.tokens for t in texts]
    assert sums(found["a"]) == [None] * 5
    # That the original wrote nothing takes no text from a variant.
    alone = scored(tiny_model("llama"), {"original": [none] * 5, "a": texts, "b": texts})
    assert sums(alone["a"]) == sums(alone["b"]) == sums(found["original"])


def test_no_text_is_scored_twice_and_no_score_depends_on_other_variants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("gemma2")
    batches: list[int] = []
    score = fluency.score_batch

    def counting(head: ChunkedHead, ids: Tensor, *rest: object) -> object:
        batches.append(len(ids))
        return score(head, ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(fluency, "score_batch", counting)
    own, other = random_texts(4), random_texts(5)
    mixed = [*own[:2], *other[2:]]
    texts = {"original": own, "same": own, "mixed": mixed, "other": other, "again": mixed}
    found = scored(model, texts)
    assert batches == [5, 3, 5]
    assert found["same"] == found["original"]
    assert found["again"] == found["mixed"]
    assert found["mixed"][:2] == found["original"][:2]
    for name in ("mixed", "other"):
        assert scored(model, {"original": own, name: texts[name]})[name] == found[name]


def test_a_broken_models_texts_are_unlikely_although_they_repeat_nothing() -> None:
    model = tiny_model("llama")
    prompts = prompts_of()
    # What breaks it leaves its texts as varied as they were.
    patches = {"original": None, "broken": patch_for(model)}
    written = generate_batch(model, *padded(prompts), patches, GREEDY, 7, end_ids=(), pad_id=PAD)
    found = {
        name: sum(text.nll or 0.0 for text in texts) / sum(len(text.tokens) for text in texts)
        for name, texts in scored(model, written).items()
    }
    assert found["broken"] > 2 * found["original"]


def test_what_the_original_rules_out_is_infinitely_unlikely() -> None:
    model = tiny_model("opt")
    rows = random_texts(6)

    def forbid(module: object, inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[..., rows[2].tokens[0]] = -torch.inf
        return output

    handle = model.lm_head.register_forward_hook(forbid)
    found = scored(model, {"original": rows})["original"]
    handle.remove()
    assert found[2].nll == float("inf")
    assert all(text.nll is not None for text in found)
