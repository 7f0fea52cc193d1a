"""Steps on a device: nothing waits within one, and what it gave is read later, the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import PreTrainedModel

from harness.base import sent
from harness.data import WindowBatch
from harness.evaluation.design import Subject
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.step import StepResult
from harness.probes import Moments
from harness.scoring import tokens
from tests.evaluation.test_evaluator import evaluator_of, observer_of, prompts, scores, windows
from tests.tiny import tiny_model
from tests.waiting import never_waiting

# The places of scored tokens are found on the host, where the text is made into batches.
ON_HOST = ("_scored",)


@pytest.fixture(params=["llama", "gemma3", "gpt2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return tiny_model(request.param)


@pytest.fixture
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the CPU treated as a device that would be waited for."""
    monkeypatch.setattr(sent, "is_awaited", lambda device: True)
    monkeypatch.setattr(tokens, "sums_by_kernel", tokens.sums_by_operations)
    monkeypatch.setattr(tokens, "kl_by_kernel", tokens.kl_by_operations)


def close(found: StepResult, wanted: StepResult) -> None:
    """By operations, and by loops on the CPU: the same but for rounding."""
    assert list(found.outcomes) == list(wanted.outcomes)
    for name, outcome in found.outcomes.items():
        other = wanted.outcomes[name]
        for column in ("window", "unit", "tokens", "agree"):
            assert (outcome.tally.rows[column] == other.tally.rows[column]).all()
        for column in ("nll", "kl"):
            one, two = outcome.tally.rows[column], other.tally.rows[column]
            assert one == pytest.approx(two, rel=1e-4, abs=1e-6)
        assert outcome.moments.keys() == other.moments.keys()
        for where, moments in outcome.moments.items():
            assert_close(moments, other.moments[where])


def assert_close(one: Moments, two: Moments) -> None:
    assert (one.count, one.max_abs, one.massive) == (two.count, two.max_abs, two.massive)
    assert one.rms == pytest.approx(two.rms, rel=1e-4)


@pytest.mark.usefixtures("_elsewhere")
def test_nothing_waits_within_a_step(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = evaluator_of(model, observer=observer_of(model))
    step = never_waiting(evaluator.step, ON_HOST)(windows())
    assert not step.is_there
    # The next is on its way before this one is read.
    following = never_waiting(evaluator.step, ON_HOST)(windows(1))
    assert (step.number, following.number) == (0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(sent, "is_awaited", lambda device: False)
        wanted = [evaluator.step(windows(number)) for number in (0, 1)]
    assert all(each.is_there for each in wanted)
    for found, due in zip((step, following), wanted, strict=True):
        close(found, due)
        assert found.is_there


@pytest.mark.usefixtures("_elsewhere")
def test_halves_are_read_later_and_are_the_whole(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = evaluator_of(model)
    whole = evaluator.step(windows())
    score, tried = Evaluator._score, list[int]()

    def too_large(self: Evaluator, batch: WindowBatch, subjects: Sequence[Subject]) -> Any:
        tried.append(len(batch.input_ids))
        if len(batch.input_ids) > 2:
            raise MemoryError("too much")
        return score(self, batch, subjects)

    monkeypatch.setattr(Evaluator, "_score", too_large)
    step = evaluator.step(windows())
    assert tried == [3, 2, 1]
    assert not step.is_there
    assert scores(step) == scores(whole)


@pytest.mark.usefixtures("_elsewhere")
def test_texts_that_are_read_later(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = evaluator_of(model, observer=observer_of(model))
    step = evaluator.step(prompts())
    monkeypatch.undo()
    wanted = evaluator.step(prompts())
    for found, due in zip(step.outcomes.values(), wanted.outcomes.values(), strict=True):
        assert [text.tokens for text in found.texts.values()] == [
            text.tokens for text in due.texts.values()
        ]
        assert found.moments.keys() == due.moments.keys()


@pytest.mark.gpu
def test_a_gpu_is_not_waited_for_within_a_step() -> None:
    model = tiny_model("llama")
    model.to("cuda")
    evaluator = evaluator_of(model, observer=observer_of(model))
    assert evaluator.step(windows().to("cuda")).outcomes  # kernels are compiled and tried
    step = never_waiting(evaluator.step, ON_HOST)(windows().to("cuda"))
    assert not step.is_there
    model.to("cpu")
    close(step, evaluator_of(model, observer=observer_of(model)).step(windows()))
