"""A batch's scores against few lines in fp64 over the model's own logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr
from torch import Tensor
from transformers import PreTrainedModel

from harness.models.head import ChunkedHead
from harness.outliers import Patch
from harness.scoring.batch import score_batch
from harness.scoring.tokens import TokenScores
from tests.models.families import (
    ALL,
    AddsTokens,
    Alone,
    ReachesInside,
    batch_of,
    model_of,
    odd_model,
    patch_of,
)

NORMS = {"gpt2": "transformer.ln_f.weight", "opt": "model.decoder.layers.1.final_layer_norm.weight"}
NORMS["gemma3-multimodal"] = "model.language_model.norm.weight"
EMBEDDINGS = {"gpt2": "transformer.wte.weight", "opt": "model.decoder.embed_tokens.weight"}
EMBEDDINGS["gemma3-multimodal"] = "model.language_model.embed_tokens.weight"

NOTHING = Patch()


def patches_of(model: PreTrainedModel, family: str = "llama") -> dict[str, Patch]:
    """One patch of the body, one of the embeddings (with the head, where tied), and none."""
    table = EMBEDDINGS.get(family, "model.embed_tokens.weight")
    width = model.get_parameter(table).shape[1]
    embedding = {i * width + 5: 4.0 for i in range(0, 250, 3)}
    return {
        "body": patch_of(model, {NORMS.get(family, "model.norm.weight"): {3: 0.0, 7: 9.0}}),
        "embedding": patch_of(model, {table: embedding}),
        "nothing": NOTHING,
    }


def naive(model: PreTrainedModel, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities and negative log-likelihood of the scored tokens, in fp64."""
    ids, mask, _ = batch_of()
    with torch.no_grad():
        logits = model(ids, attention_mask=mask).logits[targets != -100]
    log_probs = log_softmax(logits.double().numpy(), axis=-1)
    scored = targets[targets != -100].numpy()
    return log_probs, -log_probs[np.arange(len(scored)), scored]


def check(model: PreTrainedModel, patches: dict[str, Patch], rtol: float, atol: float) -> None:
    ids, mask, targets = batch_of()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = score_batch(
        ChunkedHead(model), ids, mask, targets, patches, chunk_bytes=5 * 4 * 260
    ).read()
    assert list(scores) == ["original", *patches]
    log_p, nll = naive(model, targets)
    assert (scores["original"].kl, scores["original"].agree) == (None, None)
    np.testing.assert_allclose(scores["original"].nll, nll, rtol=rtol, atol=atol)
    for name, patch in patches.items():
        with patch.applied(model):
            log_q, nll = naive(model, targets)
        found = scores[name]
        assert found.kl is not None
        assert found.agree is not None
        np.testing.assert_allclose(found.nll, nll, rtol=rtol, atol=atol)
        exact = rel_entr(np.exp(log_p), np.exp(log_q)).sum(-1)
        np.testing.assert_allclose(found.kl, exact, rtol=10 * rtol, atol=atol)
        lead = np.minimum(*(np.diff(np.sort(x), axis=-1)[:, -1] for x in (log_p, log_q)))
        sure = lead > 2 * atol  # otherwise rounding decides
        same = log_p.argmax(-1) == log_q.argmax(-1)
        assert sure.any()
        assert (found.agree.numpy() == same)[sure].all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("family", ALL)
def test_scores_are_those_of_the_models_own_logits(family: str) -> None:
    model = model_of(family)
    check(model, patches_of(model, family), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["gemma3", "llama", "gpt2"])
def test_scores_in_half_precision(family: str, dtype: torch.dtype) -> None:
    model = model_of(family, dtype)
    check(model, patches_of(model, family), rtol=0.02, atol=12 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("kind", [Alone, AddsTokens, ReachesInside])
def test_scores_of_models_out_of_the_ordinary(kind: type) -> None:
    model = odd_model(kind)
    check(model, patches_of(model), rtol=2e-5, atol=2e-6)


def test_a_tied_embedding_is_edited_in_the_head_too() -> None:
    # The patched token occurs nowhere in the batch: only the head can tell.
    model = model_of("qwen2")
    ids, mask, targets = batch_of()
    row = {255 * 32 + i: 1.0 for i in range(32)}
    assert not (ids == 255).any()
    patch = patch_of(model, {"model.embed_tokens.weight": row})
    kl = score_batch(ChunkedHead(model), ids, mask, targets, {"tied": patch}).read()["tied"].kl
    assert kl is not None
    assert (kl > 1e-6).all()


def values(scores: TokenScores) -> list[Tensor]:
    return [x for x in (scores.nll, scores.kl, scores.agree) if x is not None]


def test_scores_do_not_depend_on_the_size_of_chunks() -> None:
    model = model_of("gemma2")
    patches = patches_of(model)
    head = ChunkedHead(model)
    whole = score_batch(head, *batch_of(), patches).read()
    for chunk_bytes in (1, 3 * 4 * 260, 1000 * 4 * 260):
        parts = score_batch(head, *batch_of(), patches, chunk_bytes=chunk_bytes).read()
        for name, expected in whole.items():
            for x, y in zip(values(parts[name]), values(expected), strict=True):
                torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


def test_scores_do_not_depend_on_the_variants_beside_or_their_grouping() -> None:
    model = model_of("gemma3")
    patches = patches_of(model)
    head = ChunkedHead(model)
    whole = score_batch(head, *batch_of(), patches).read()
    grouped = score_batch(head, *batch_of(), patches, hidden_bytes=1).read()
    assert list(grouped) == list(whole)
    alone = score_batch(head, *batch_of(), {}).read()
    assert list(alone) == ["original"]
    assert torch.equal(alone["original"].nll, whole["original"].nll)
    for name, patch in patches.items():
        single = score_batch(head, *batch_of(), {name: patch}).read()
        for other in (grouped, single):
            for x, y in zip(values(other[name]), values(whole[name]), strict=True):
                assert torch.equal(x, y)


def test_every_variant_runs_its_own_body(monkeypatch: pytest.MonkeyPatch) -> None:
    # The empty patch is a second measurement of the original, not a copy of the first.
    head = ChunkedHead(model_of("llama"))
    calls = []
    body = head.body
    monkeypatch.setattr(head, "body", lambda *inputs: calls.append(1) or body(*inputs))
    scores = score_batch(head, *batch_of(), {"again": NOTHING}).read()
    assert len(calls) == 2
    assert torch.equal(scores["again"].nll, scores["original"].nll)
    assert scores["again"].kl is not None
    assert scores["again"].kl.tolist() == [0.0] * len(scores["again"].nll)
    assert scores["again"].agree is not None
    assert scores["again"].agree.all()


@pytest.mark.parametrize(
    ("most", "chunks"), [(7, [6] * 4), (2.5, [2] * 12), (24, [24]), (23, [12, 12]), (0.5, [1] * 24)]
)
def test_scored_positions_go_through_the_head_in_few_chunks_of_one_size(
    most: float, chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = ChunkedHead(model_of("llama"))
    rows: list[int] = []
    tail = head.tail
    monkeypatch.setattr(head, "tail", lambda h: rows.append(len(h)) or tail(h))
    # 7 targets of 12 tokens, 11 of 12 and 6 of 7; no chunk has more rows than there is room for.
    score_batch(head, *batch_of(), {}, chunk_bytes=int(most * 4 * 260)).read()
    assert rows == chunks


def test_nan_of_one_variant_stays_with_it() -> None:
    model = model_of("qwen2")
    broken = patch_of(model, {"model.embed_tokens.weight": {250 * 32: torch.nan}})
    fine = patches_of(model)["body"]
    head = ChunkedHead(model)
    clean = score_batch(head, *batch_of(), {"fine": fine}).read()
    scores = score_batch(head, *batch_of(), {"broken": broken, "fine": fine}).read()
    assert scores["broken"].nll.isnan().all()
    assert scores["broken"].kl is not None
    assert scores["broken"].kl.isnan().all()
    assert scores["broken"].agree is not None
    assert not scores["broken"].agree.any()
    for name, expected in clean.items():
        for x, y in zip(values(scores[name]), values(expected), strict=True):
            assert torch.equal(x, y)
            assert x.isfinite().all()


def test_a_batch_in_which_nothing_is_scored() -> None:
    head = ChunkedHead(model_of("gpt2"))
    ids, mask, targets = batch_of()
    scores = score_batch(head, ids, mask, torch.full_like(targets, -100), {"again": NOTHING}).read()
    for name in ("original", "again"):
        assert [len(x) for x in values(scores[name])] == [0] * (1 if name == "original" else 3)


@pytest.mark.parametrize("part", ["body", "tail"])
def test_the_weights_are_back_after_an_error(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("qwen2")
    head = ChunkedHead(model)
    table = model.model.embed_tokens.weight
    before = table.clone()

    def fails(*inputs: Tensor) -> Tensor:
        if torch.equal(table, before):
            return run(*inputs)
        raise KeyError  # the variant's turn

    run = getattr(head, part)
    monkeypatch.setattr(head, part, fails)
    with pytest.raises(KeyError):
        score_batch(head, *batch_of(), {"tied": patches_of(model)["embedding"]}).read()
    assert torch.equal(table, before)


def test_dropout_is_off_and_the_mode_kept() -> None:
    model = model_of("gpt2")
    head = ChunkedHead(model)
    expected = score_batch(head, *batch_of(), {}).read()["original"].nll
    model.train()
    assert torch.equal(score_batch(head, *batch_of(), {}).read()["original"].nll, expected)
    assert model.training


def test_no_variant_can_take_the_originals_name() -> None:
    with pytest.raises(ValueError, match="original"):
        score_batch(ChunkedHead(model_of("llama")), *batch_of(), {"original": NOTHING}).read()
