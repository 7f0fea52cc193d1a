"""Steps without a trainer: what they measure against naive fp64, and what they leave behind."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from harness.data import PromptBatch, WindowBatch
from harness.data.plan import SENTINEL
from harness.data.prompts import PromptRows
from harness.evaluation.design import NOISE_FLOOR, ROUNDING, Subject, find_subjects
from harness.evaluation.evaluator import Decoding, Evaluator
from harness.evaluation.step import StepResult
from harness.models.head import ChunkedHead
from harness.outliers import AbsoluteThreshold, Patch, TensorPatch
from harness.outliers.variants import OutlierEdit
from harness.probes import Observer, Sites
from harness.writing.generate import Continuation
from tests.evaluation.test_step import exact
from tests.tiny import tiny_model, tiny_tokenizer

THRESHOLD = 0.6
FAMILIES = ["llama", "gemma3"]
SAMPLED = {"max_new_tokens": 8, "do_sample": True, "temperature": 1.0}


def windows(number: int = 0, rows: int = 3, length: int = 12) -> WindowBatch:
    """Windows of different lengths; of each the last tokens are scored."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(0, 256, (rows, length + 1), generator=generator)
    lengths = torch.tensor([length - 3 * row for row in range(rows)])
    place = torch.arange(length)
    mask = (place < lengths[:, None]).long()
    scored = mask.bool() & (place >= torch.arange(rows)[:, None])
    targets = torch.where(scored, ids[:, 1:], -100)
    numbers = torch.arange(rows) + rows * number
    return WindowBatch(number, numbers, numbers // 2, ids[:, :-1], mask, targets)


def prompts(number: int = 0, first_step: int = 4) -> PromptBatch:
    generator = torch.Generator().manual_seed(number)
    ids = [torch.randint(0, 256, (n,), generator=generator).tolist() for n in (9, 6)]
    ids = [[0]] * (2 * max(number, 0)) + ids
    rows = PromptRows(ids, 258, lambda: first_step)
    return rows[number, [] if number < 0 else [2 * number, 2 * number + 1]]


def subjects_of(model: PreTrainedModel, controls: int = 2) -> list[Subject]:
    """An edit and its controls, a criterion that selects nothing, and the floors."""
    variants = {
        "zeroed": OutlierEdit(AbsoluteThreshold(THRESHOLD), controls=controls),
        "none": OutlierEdit(AbsoluteThreshold(1e6)),
    }
    return find_subjects(model, variants, 0)


def evaluator_of(model: PreTrainedModel, **options: object) -> Evaluator:
    return Evaluator(ChunkedHead(model), subjects_of(model), **options)  # type: ignore[arg-type]


def observer_of(model: PreTrainedModel) -> Observer:
    return Observer(model, Sites().find(model))


def writing(seed: int = 0) -> Decoding:
    return Decoding(SAMPLED, seed, end_ids=[257], pad_id=258)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return tiny_model(request.param)


@pytest.fixture
def llama() -> PreTrainedModel:
    return tiny_model("llama")


def state(model: nn.Module) -> list[object]:
    """Bits of all weights, hooks, and the mode and the forward of every module."""
    bits = [weight.detach().clone().view(torch.int32) for weight in model.parameters()]
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), m.training, "forward" in m.__dict__)
        for m in model.modules()
    ]
    return [[bit.tolist() for bit in bits], hooks]


def scores(step: StepResult) -> list[object]:
    return [(n, exact(o.tally), exact(o.texts), o.notes) for n, o in step.outcomes.items()]


# -- windows ---------------------------------------------------------------------------------------


def naive(model: PreTrainedModel, batch: WindowBatch, row: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities in fp64 of a row's scored positions [n, V], and targets [n]."""
    length = int(batch.attention_mask[row].sum())
    targets = batch.targets[row, :length]
    with torch.no_grad():
        logits = model(batch.input_ids[row : row + 1, :length]).logits[0]
    return logits.log_softmax(-1)[targets != -100], targets[targets != -100]


def zeroed_by_hand(model: PreTrainedModel) -> PreTrainedModel:
    edited = copy.deepcopy(model)
    with torch.no_grad():
        for weight in edited.parameters():
            weight[weight.abs() > THRESHOLD] = 0
    return edited


def test_outcomes_are_those_of_naive_fp64(model: PreTrainedModel) -> None:
    batch = windows(3)
    step = evaluator_of(model).step(batch)
    assert step.number == 3
    assert step.is_scored
    names = ["original", "zeroed", "zeroed-control-0", "zeroed-control-1", "none"]
    assert list(step.outcomes) == [*names, ROUNDING, NOISE_FLOOR]
    original, zeroed = copy.deepcopy(model).double(), zeroed_by_hand(model).double()
    assert any((a != b).any() for a, b in zip(model.parameters(), zeroed.parameters(), strict=True))
    kl_max = 0.0
    for row in range(3):
        p, targets = naive(original, batch, row)
        for name, other in (("original", original), ("zeroed", zeroed)):
            q, _ = naive(other, batch, row)
            found = step.outcomes[name].tally.rows[row]
            assert (found.window, found.unit) == (9 + row, (9 + row) // 2)
            assert found.tokens == len(targets) == 12 - 4 * row
            nll = -q.gather(1, targets[:, None]).sum()
            assert found.nll == pytest.approx(float(nll), rel=1e-5)
            kl = (p.exp() * (p - q)).sum(1)
            assert found.kl == pytest.approx(float(kl.sum()), rel=1e-4, abs=1e-12)
            assert found.agree == int((p.argmax(1) == q.argmax(1)).sum())
            kl_max = max(kl_max, float(kl.max()))
    histogram = step.outcomes["zeroed"].tally.kl
    assert histogram.count == 12 + 8 + 4
    assert histogram.maximum == pytest.approx(kl_max, rel=1e-4)
    assert step.original.tally.kl.count == 0


def test_a_variant_that_changes_nothing_is_the_original_and_is_not_computed(
    llama: PreTrainedModel,
) -> None:
    evaluator = evaluator_of(llama, decoding=writing())
    calls = []
    llama.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    step = evaluator.step(windows(8))  # without floors
    assert len(calls) == 4  # the original, the edit and its controls
    rows = step.outcomes["none"].tally.rows
    assert exact(rows) == exact(step.original.tally.rows)
    assert all(row.kl == 0 and row.agree == row.tokens for row in rows)
    histogram = step.outcomes["none"].tally.kl
    assert (histogram.count, histogram.maximum) == (sum(row.tokens for row in rows), 0)
    texts = evaluator.step(prompts())
    assert exact(texts.outcomes["none"].texts) == exact(texts.original.texts)


def test_floors_are_measured_on_the_first_eight_batches(model: PreTrainedModel) -> None:
    evaluator = evaluator_of(model)
    for number in range(10):
        step = evaluator.step(windows(number, rows=1))
        floors = {NOISE_FLOOR, ROUNDING} & set(step.outcomes)
        assert floors == ({NOISE_FLOOR, ROUNDING} if number < 8 else set())
        if floors:
            rows, again = step.original.tally.rows, step.outcomes[NOISE_FLOOR].tally.rows
            assert exact(again) == exact(rows)
            assert 0 < step.outcomes[ROUNDING].tally.rows[0].kl < 1e-3


def test_no_outcome_depends_on_the_other_subjects(llama: PreTrainedModel) -> None:
    every = evaluator_of(llama).step(windows())
    subjects = [s for s in subjects_of(llama) if s.name == "zeroed-control-1"]
    alone = Evaluator(ChunkedHead(llama), subjects).step(windows())
    for name in ("original", "zeroed-control-1"):
        assert exact(alone.outcomes[name]) == exact(every.outcomes[name])


def test_a_sentinel_runs_and_counts_for_nothing(llama: PreTrainedModel) -> None:
    evaluator = evaluator_of(llama, observer=observer_of(llama), decoding=writing())
    none, one = torch.tensor([SENTINEL]), torch.ones(1, 1, dtype=torch.int64)
    step = evaluator.step(WindowBatch(SENTINEL, none, none, one, one, one * -100))
    assert step.number < 0
    assert step.original.tally.tokens == 0
    texts = evaluator.step(prompts(SENTINEL))
    assert texts.number < 0
    assert texts.original.texts == {}
    for outcome in (*step.outcomes.values(), *texts.outcomes.values()):
        assert not outcome.moments
        assert not outcome.unplaced
        assert not outcome.notes


# -- observing -------------------------------------------------------------------------------------


def test_observing_changes_no_bit(model: PreTrainedModel) -> None:
    plain = evaluator_of(model, decoding=writing())
    watched = evaluator_of(model, decoding=writing(), observer=observer_of(model))
    for batch in (windows(), prompts()):
        without, with_observer = plain.step(batch), watched.step(batch)
        assert scores(with_observer) == scores(without)
        assert with_observer.original.moments
        assert not without.original.moments


def test_the_edit_and_the_first_control_are_observed_as_what_they_are(
    llama: PreTrainedModel,
) -> None:
    evaluator = evaluator_of(llama, observer=observer_of(llama), decoding=writing())
    batch = windows()
    step = evaluator.step(batch)
    observed = [name for name, outcome in step.outcomes.items() if outcome.moments]
    assert observed == ["original", "zeroed", "zeroed-control-0", "none"]
    assert step.outcomes["none"].moments == step.original.moments
    assert list(evaluator.step(prompts()).outcomes) == observed
    for name, model in (("original", llama), ("zeroed", zeroed_by_hand(llama))):
        outputs: list[Tensor] = []
        place = model.get_submodule("model.layers.1.mlp.down_proj")
        hook = place.register_forward_hook(lambda _, __, out, kept=outputs: kept.append(out))
        with hook, torch.no_grad():
            model(batch.input_ids, attention_mask=batch.attention_mask)
        values = outputs[0][batch.attention_mask.bool()].double()
        seen = [
            moments
            for where, moments in step.outcomes[name].moments.items()
            if where.site.name == "model.layers.1.mlp.down_proj"
        ]
        assert sum(moments.count for moments in seen) == values.numel()
        assert max(moments.max_abs for moments in seen) == pytest.approx(float(values.abs().max()))
        total = sum(moments.squares for moments in seen)
        assert total == pytest.approx(float(values.square().sum()), rel=1e-5)


def test_each_so_many_th_batch_of_the_plan_is_observed(llama: PreTrainedModel) -> None:
    evaluator = evaluator_of(llama, observer=observer_of(llama), every=3, decoding=writing())
    batches = [windows(number, rows=1) for number in range(5)]
    steps = [evaluator.step(batch) for batch in reversed(batches)]
    assert [step.number for step in steps if step.original.moments] == [3, 0]
    # Prompts come after the windows: their place in the plan counts, not the first of them.
    texts = [evaluator.step(prompts(number, first_step=5)) for number in range(3)]
    assert [step.number for step in texts] == [5, 6, 7]
    assert [step.number for step in texts if step.original.moments] == [6]


# -- what is left behind ---------------------------------------------------------------------------


@pytest.mark.parametrize("train", [False, True])
def test_the_model_is_afterwards_what_it_was(train: bool, model: PreTrainedModel) -> None:
    evaluator = evaluator_of(model, observer=observer_of(model), decoding=writing())
    model.train(train)
    before, random_state = state(model), torch.random.get_rng_state()
    for batch in (windows(), prompts()):
        evaluator.step(batch)
        assert state(model) == before
        assert torch.equal(torch.random.get_rng_state(), random_state)
    model.eval()


@contextmanager
def failing(model: PreTrainedModel, calls: int) -> Iterator[None]:
    """Makes a part of the model fail at its so-many-th call."""
    left = iter(range(calls - 1))

    def fail(*_: object) -> None:
        if next(left, None) is None:
            raise RuntimeError("on fire")

    with model.model.layers[1].register_forward_hook(fail):
        yield


@pytest.mark.parametrize("calls", [1, 2, 3])
@pytest.mark.parametrize("kind", [windows, prompts])
def test_also_after_an_error_in_the_middle(
    kind: type[WindowBatch], calls: int, model: PreTrainedModel
) -> None:
    evaluator = evaluator_of(model, observer=observer_of(model), decoding=writing())
    before = state(model)
    expected = evaluator.step(kind())
    # Prompts call it once for every token of all models together.
    calls = calls if kind is windows else 3 * calls - 1
    with failing(model, calls), pytest.raises(RuntimeError, match="on fire"):
        evaluator.step(kind())
    assert state(model) == before
    assert exact(evaluator.step(kind())) == exact(expected)


# -- prompts ---------------------------------------------------------------------------------------


def test_texts_come_of_seed_and_place_in_the_plan_alone(model: PreTrainedModel) -> None:
    one = evaluator_of(model, decoding=writing())
    steps = [one.step(prompts(number)) for number in (0, 1)]
    other = evaluator_of(model, decoding=writing())
    torch.manual_seed(99)
    again = [other.step(prompts(number)) for number in (1, 0)]
    assert [exact(step) for step in again[::-1]] == [exact(step) for step in steps]
    assert [step.number for step in steps] == [4, 5]
    assert [sorted(step.original.texts) for step in steps] == [[0, 1], [2, 3]]
    assert not steps[0].is_scored
    for outcome in steps[0].outcomes.values():
        for text in outcome.texts.values():
            assert 0 < len(text.tokens) <= 8
            assert text.nll is not None
    assert scores(evaluator_of(model, decoding=writing(1)).step(prompts())) != scores(steps[0])


def test_each_batch_of_prompts_is_drawn_with_the_next_seed(llama: PreTrainedModel) -> None:
    first, second = prompts(), replace(prompts(), number=1)
    evaluator, later = (evaluator_of(llama, decoding=writing(seed)) for seed in (0, 1))
    steps = [one.step(batch) for one in (evaluator, later) for batch in (first, second)]
    texts = [exact(step.original.texts) for step in steps]
    assert texts[1] == texts[2]
    assert texts[0] != texts[1] != texts[3]


def test_greedy_texts_are_those_of_the_naive_loop(model: PreTrainedModel) -> None:
    decoding = Decoding({"max_new_tokens": 4, "do_sample": False}, pad_id=258)
    batch = prompts()
    step = evaluator_of(model, decoding=decoding).step(batch)
    for name, other in (("original", model), ("zeroed", zeroed_by_hand(model))):
        for row, text in step.outcomes[name].texts.items():
            prompt = batch.input_ids[row, batch.attention_mask[row].bool()].tolist()
            ids, nll = list(prompt), 0.0
            with torch.no_grad():
                for _ in range(4):
                    ids.append(int(other(torch.tensor([ids])).logits[0, -1].argmax()))
                logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            nll = -sum(float(logits[k - 1, ids[k]]) for k in range(len(prompt), len(ids)))
            assert text.tokens == tuple(ids[len(prompt) :])
            assert text.nll == pytest.approx(nll, rel=1e-5)


def test_models_write_together_what_they_write_alone(model: PreTrainedModel) -> None:
    """The same texts, one forward for all; also where some are known and not written again."""
    evaluator = evaluator_of(model, decoding=writing(), observer=observer_of(model))
    rows: list[int] = []

    def count(module: object, inputs: object, named: dict[str, Tensor]) -> None:
        rows.append(len(named["input_ids"]))

    with model.register_forward_pre_hook(count, with_kwargs=True):
        step = evaluator.step(prompts())
    # Three models with two prompts each; the one that changes nothing is not run. The first are
    # those of the trial, of two prompts as well; then texts are scored.
    assert rows[:10] == [6] * 10
    assert set(rows[10:]) <= {1, 2}
    known = {name: step.outcomes[name] for name in ("original", "zeroed", "none")}
    again = evaluator.step(prompts(), known)
    alone = Evaluator(ChunkedHead(model), subjects_of(model)[:1], decoding=writing())
    for other in (again, alone.step(prompts())):
        for name in {*other.outcomes} & {*step.outcomes}:
            assert other.outcomes[name].texts == {
                n: text._replace(nll=pytest.approx(text.nll, rel=1e-6))
                for n, text in step.outcomes[name].texts.items()
            }


def test_where_memory_runs_out_models_write_apart_and_then_fewer_rows(
    llama: PreTrainedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluator = evaluator_of(llama, decoding=writing(), observer=observer_of(llama))
    expected, most = evaluator.step(prompts()), 2

    def fail(module: object, inputs: object, named: dict[str, Tensor]) -> None:
        if named["use_cache"] and len(named["input_ids"]) > most:
            raise RuntimeError("out of memory")

    capsys.readouterr()
    with llama.register_forward_pre_hook(fail, with_kwargs=True):
        step = evaluator.step(prompts())
        assert "models write one after the other" in capsys.readouterr().err
        assert [o.texts for o in step.outcomes.values()] == [
            o.texts for o in expected.outcomes.values()
        ]
        for name, outcome in step.outcomes.items():
            due = expected.outcomes[name].moments
            counts = {where: moments.count for where, moments in due.items()}
            assert {w: moments.count for w, moments in outcome.moments.items()} == counts
        most = 1
        step = evaluator.step(prompts())
        assert "batches of 18 ids are taken in halves" in capsys.readouterr().err
        assert step.outcomes.keys() == expected.outcomes.keys()
        assert len(step.original.texts) == 2


# -- what is not finite ----------------------------------------------------------------------------


def breaking(model: PreTrainedModel, name: str) -> Subject:
    """A subject that makes one weight NaN."""
    weight = model.get_parameter(f"model.layers.1.{name}.weight")
    index, old = torch.tensor([5]), weight.detach().flatten()[5:6].clone()
    patch = TensorPatch(f"model.layers.1.{name}.weight", tuple(weight.shape), index, old, old / 0)
    return Subject("broken", Patch((patch,)))


def test_where_nan_arises_is_noted_once_of_each_model(model: PreTrainedModel) -> None:
    subjects = [breaking(model, "mlp.down_proj"), *subjects_of(model)]
    evaluator = Evaluator(ChunkedHead(model), subjects, decoding=writing())
    before = state(model)
    step = evaluator.step(windows(2))
    note = (
        "broken: NaN or infinity, first at model.layers.1.mlp.down_proj (its weight is not "
        "finite), in batch 2."
    )
    assert {n: o.notes for n, o in step.outcomes.items() if o.notes} == {"broken": [note]}
    assert all(math.isnan(row.nll) and row.agree == 0 for row in step.outcomes["broken"].tally.rows)
    for batch in (windows(3), prompts()):
        assert not [o.notes for o in evaluator.step(batch).outcomes.values() if o.notes]
    assert state(model) == before


def test_where_nan_arises_in_texts(llama: PreTrainedModel) -> None:
    evaluator = Evaluator(
        ChunkedHead(llama), [breaking(llama, "self_attn.q_proj")], decoding=writing()
    )
    step = evaluator.step(prompts(1))
    assert step.outcomes["broken"].texts == {k: Continuation((), broken=True) for k in (2, 3)}
    assert step.outcomes["broken"].notes == [
        "broken: NaN or infinity, first at model.layers.1.self_attn.q_proj (its weight is not "
        "finite), in prompts 1."
    ]
    assert step.original.notes == []


def test_a_broken_original_breaks_its_variants_and_no_floor_says_so(llama: PreTrainedModel) -> None:
    with torch.no_grad():
        llama.model.layers[0].mlp.up_proj.weight[3, 3] = torch.nan
    step = evaluator_of(llama).step(windows())
    noted = {name for name, outcome in step.outcomes.items() if outcome.notes}
    assert noted >= {"original", "zeroed", "zeroed-control-0", "zeroed-control-1"}
    assert not noted & {NOISE_FLOOR, ROUNDING}
    for name in noted:
        (note,) = step.outcomes[name].notes
        assert "first at model.layers.0.mlp.up_proj (its weight is not finite)" in note


def test_looking_for_nan_is_evaluation(llama: PreTrainedModel) -> None:
    """The forward that looks for it sees the model as the forward that was measured did."""
    modes: list[tuple[bool, bool]] = []
    evaluator = Evaluator(ChunkedHead(llama), [breaking(llama, "mlp.down_proj")])
    llama.train()
    with llama.model.layers[0].register_forward_hook(
        lambda module, *_: modes.append((module.training, torch.is_grad_enabled()))
    ):
        evaluator.step(windows())
    assert len(modes) == 3
    assert set(modes) == {(False, False)}


# -- as README has it ------------------------------------------------------------------------------


def test_the_objects_are_of_use_without_a_command(model: PreTrainedModel) -> None:
    tokenizer: PreTrainedTokenizerFast = tiny_tokenizer()
    ids = torch.tensor(
        tokenizer(["A quick brown fox jumps.", "As many bytes as above.."]).input_ids
    )
    edit = OutlierEdit(AbsoluteThreshold(THRESHOLD)).find("zeroed", model)
    random = edit.control(0, model)
    subjects = [Subject("zeroed", edit), Subject("random", random, control_of="zeroed")]
    step = Evaluator(ChunkedHead(model), subjects).step(WindowBatch.of(ids))
    nll = {n: sum(r.nll for r in o.tally.rows) / o.tally.tokens for n, o in step.outcomes.items()}
    assert list(nll) == ["original", "zeroed", "random"]
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    assert nll["original"] == pytest.approx(float(loss), rel=1e-5)
    assert nll["zeroed"] != nll["original"] != nll["random"]
