"""Generated text against a loop of a few lines without cache, padding or batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, RwkvConfig

from harness.outliers import Patch
from harness.writing.generate import Continuation, generate_batch, leaves_padding_out
from tests.models.families import ALL, model_of, patch_of
from tests.tiny import FAMILIES, tiny_model

END, PAD = 257, 258
NEW = 12
GREEDY = {"max_new_tokens": NEW, "do_sample": False}
SAMPLED = {"max_new_tokens": NEW, "do_sample": True, "temperature": 1.3, "top_k": 0}
NOTHING = None
NAN, INF = math.nan, math.inf


def prompts_of(lengths: Sequence[int] = (3, 17, 8, 1, 11), seed: int = 5) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 250, (n,), generator=generator).tolist() for n in lengths]


def padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = [[PAD] * (width - len(row)) + list(row) for row in prompts]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in prompts]
    return torch.tensor(ids), torch.tensor(mask)


def written(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    patches: dict[str, Patch] | None = None,
    arguments: dict[str, Any] = GREEDY,
    seed: int = 7,
    **options: Any,
) -> dict[str, list[Continuation]]:
    options = {"end_ids": {END}, "pad_id": PAD} | options
    patches = {"original": NOTHING} if patches is None else patches
    return generate_batch(model, *padded(prompts), patches, arguments, seed, **options)


@torch.no_grad()
def naive(model: PreTrainedModel, prompt: Sequence[int], ends: frozenset[int]) -> tuple[int, ...]:
    ids = list(prompt)
    for _ in range(NEW):
        token = int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in ends:
            break
        ids.append(token)
    return tuple(ids[len(prompt) :])


def ends_of(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> frozenset[int]:
    """Tokens that the greedy texts hold in their midst, so that some of them end early."""
    texts = [naive(model, prompt, frozenset()) for prompt in prompts]
    return frozenset({END, texts[0][4], texts[1][0]})


def patch_for(model: PreTrainedModel, scale: float = 2.0) -> Patch:
    """A patch that moves a few entries of every matrix far enough to change the text."""
    values = {}
    for name, weight in model.named_parameters():
        if weight.dim() >= 2:
            flat = weight.detach().flatten()
            values[name] = {
                k: scale * (-1) ** k + float(flat[k]) for k in range(0, min(400, len(flat)), 7)
            }
    return patch_of(model, values)


def edited(model: PreTrainedModel, done: Patch) -> PreTrainedModel:
    model = copy.deepcopy(model)
    parameters = dict(model.named_parameters())
    for tensor in done.tensors:
        parameters[tensor.name].data.view(-1)[tensor.index] = tensor.new
    return model


def bits_of(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: w.detach().clone().view(torch.int32) for name, w in model.named_parameters()}


# -- greedy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ALL)
def test_greedy_text_is_that_of_a_naive_loop(family: str) -> None:
    model, prompts = model_of(family), prompts_of()
    ends = ends_of(model, prompts)
    expected = [naive(model, prompt, ends) for prompt in prompts]
    # Or there would be little to compare.
    assert len({len(text) for text in expected}) > 1
    assert len(set(expected)) > 2
    found = written(model, prompts, end_ids=ends)["original"]
    assert [row.tokens for row in found] == expected
    assert not any(row.broken for row in found)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_writes_what_its_prompts_do_alone(family: str) -> None:
    model, prompts = tiny_model(family), prompts_of()
    together = written(model, prompts)["original"]
    alone = [written(model, [prompt])["original"][0] for prompt in prompts]
    assert together == alone
    # What stands under the mask is of no account.
    options = {"end_ids": {END}, "pad_id": PAD}
    ids, mask = padded(prompts)
    other = ids.masked_fill(mask == 0, 3)
    assert generate_batch(model, other, mask, {"a": NOTHING}, GREEDY, 7, **options)["a"] == alone


def test_the_end_is_cut_off_and_what_follows_is_filled_up() -> None:
    model, prompts = tiny_model("llama"), prompts_of()
    whole = [naive(model, prompt, frozenset()) for prompt in prompts]
    assert all(len(text) == NEW for text in whole)
    first = whole[1][0]
    found = written(model, prompts, end_ids={first, END}, pad_id=first)["original"]
    assert found[1] == Continuation((), choices=1)
    for text, row in zip(whole, found, strict=True):
        length = text.index(first) if first in text else NEW
        assert row.tokens == text[:length]
    # Without a token that ends them all texts are as long as they may be.
    free = written(model, prompts, end_ids=(), pad_id=0)["original"]
    assert [row.tokens for row in free] == whole


# -- sampled -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_variant_draws_the_same_numbers(family: str) -> None:
    model, prompts = tiny_model(family), prompts_of()
    patches = {"original": NOTHING, "other": patch_for(model), "again": NOTHING}
    found = written(model, prompts, patches, SAMPLED)
    assert list(found) == list(patches)
    assert found["again"] == found["original"] != found["other"]
    # Whatever was drawn between and before.
    torch.rand(3)
    assert written(model, prompts, patches, SAMPLED) == found
    assert written(model, prompts, patches, SAMPLED, seed=8)["original"] != found["original"]
    assert written(model, prompts)["original"] != found["original"]


def test_sampled_text_is_drawn_from_the_softmax() -> None:
    model = tiny_model("llama")
    rows = 4000
    prompt = prompts_of([6])[0]
    arguments = {"max_new_tokens": 1, "do_sample": True, "temperature": 2.0, "top_k": 0}
    found = written(model, [prompt] * rows, None, arguments, end_ids=())["original"]
    drawn = torch.tensor([row.tokens[0] for row in found]).bincount(minlength=260) / rows
    with torch.no_grad():
        expected = (model(torch.tensor([prompt])).logits[0, -1] / 2.0).softmax(-1)
    # Half the sum of differences of a sample of 4,000 from 260 tokens.
    assert float((drawn - expected).abs().sum()) / 2 < 0.12
    assert float(expected.max()) < 0.5


@pytest.mark.parametrize("arguments", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_state_of_the_generator_is_what_it_was(arguments: dict[str, Any]) -> None:
    model, prompts = tiny_model("gpt2"), prompts_of()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    written(model, prompts, {"a": NOTHING, "b": patch_for(model)}, arguments)
    assert torch.equal(torch.get_rng_state(), before)

    @contextmanager
    def failing(names: Sequence[str]) -> Iterator[None]:
        raise RuntimeError(*names)
        yield

    weights = bits_of(model)
    with pytest.raises(RuntimeError, match="b"):
        written(model, prompts, {"b": patch_for(model)}, arguments, watch=failing)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in bits_of(model).items())


# -- patches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_patch_writes_what_an_edited_copy_does(family: str, arguments: dict[str, Any]) -> None:
    model, prompts = tiny_model(family), prompts_of()
    weights, patch = bits_of(model), patch_for(model)
    copied = written(edited(model, patch), prompts, None, arguments)["original"]
    alone = written(model, prompts, None, arguments)["original"]
    found = written(model, prompts, {"a": NOTHING, "b": patch, "c": NOTHING}, arguments)
    assert found == {"a": alone, "b": copied, "c": alone}
    assert copied != alone
    assert all(torch.equal(value, weights[name]) for name, value in bits_of(model).items())


def padded_prompt() -> tuple[Tensor, Tensor]:
    """A prompt of five tokens after nine of padding."""
    mask = torch.tensor([0] * 9 + [1] * 5)
    return torch.arange(3, 17) * mask, mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ALL)
def test_padding_is_left_out(family: str, dtype: torch.dtype) -> None:
    assert leaves_padding_out(model_of(family, dtype), *padded_prompt())


@pytest.mark.parametrize("value", [NAN, INF])
def test_padding_of_what_is_not_finite_tells_nothing(value: float) -> None:
    model = model_of("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(value)
    assert leaves_padding_out(model, *padded_prompt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_recurrent_model_that_reads_padding_is_told(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = RwkvConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, context_length=32)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    own = model.generation_config
    assert not leaves_padding_out(model, *padded_prompt())
    assert model.generation_config is own
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_padding_may_change_as_much_as_rounding_in_the_models_type(dtype: torch.dtype) -> None:
    model = model_of("llama", dtype)

    def off(relative: float) -> Any:
        def changed(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            # The head sees the last position alone; what is padded comes first.
            calls.append(None)
            return output * (1 + relative) if len(calls) == 1 else output

        calls: list[None] = []
        return model.lm_head.register_forward_hook(changed)

    step = torch.finfo(dtype).eps
    for relative, expected in ((step, True), (max(0.002, 60 * step), False)):
        handle = off(relative)
        assert leaves_padding_out(model, *padded_prompt()) is expected
        handle.remove()


def test_training_mode_is_left_out_and_given_back() -> None:
    model, prompts = tiny_model("gpt2"), prompts_of()
    expected = written(model, prompts)
    model.train()  # with dropout of 0.1
    assert written(model, prompts) == expected
    assert all(module.training for module in model.modules())


def test_each_model_is_watched_with_its_patch_in_place() -> None:
    model, prompts = tiny_model("llama"), prompts_of()
    patch = patch_for(model)
    tensor = patch.tensors[0]
    seen: list[tuple[object, ...]] = []

    @contextmanager
    def watch(names: Sequence[str]) -> Iterator[None]:
        calls: list[int] = []
        hook = model.lm_head.register_forward_hook(lambda *_: calls.append(1))
        yield
        hook.remove()
        now = dict(model.named_parameters())[tensor.name].detach().flatten()[tensor.index]
        seen.append((*names, torch.equal(now, tensor.new)))
        assert len(calls) == NEW

    written(model, prompts, {"a": NOTHING, "b": patch}, end_ids=(), watch=watch)
    assert seen == [("a", False), ("b", True)]


# -- what is no number -------------------------------------------------------------------------

BROKEN = [Continuation((), broken=True)] * 5


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("arguments", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("family", FAMILIES)
def test_nan_weights_write_nothing(family: str, arguments: dict[str, Any], value: float) -> None:
    model, prompts = tiny_model(family), prompts_of()
    # Of the last norm: attention kernels let some NaN pass as if they were masked.
    name = [n for n, _ in model.named_parameters() if n.endswith(("norm.weight", "ln_f.weight"))][
        -1
    ]
    patch = patch_of(model, {name: {0: value, 1: value}})
    copied = edited(model, patch)
    with torch.no_grad():
        logits = [copied(torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
    broken = [not bool(row.amax().isfinite()) for row in logits]
    assert any(broken)
    assert all(broken) or not math.isnan(value)
    weights = bits_of(model)
    found = written(model, prompts, {"a": NOTHING, "b": patch, "c": NOTHING}, arguments)
    for row, at_once in zip(found["b"], broken, strict=True):
        assert row == Continuation((), True) or not at_once
    assert found["c"] == found["a"]
    assert not any(row.broken for row in found["a"])
    assert all(torch.equal(now, weights[name]) for name, now in bits_of(model).items())


class Hurt:
    """Sets the logits of some rows, at one step, to what is no number to choose by."""

    def __init__(self, model: PreTrainedModel, rows: list[int], step: int, value: float) -> None:
        self.rows, self.step, self.value, self.steps = rows, step, value, 0
        self.hook = model.register_forward_hook(self)

    def __call__(self, module: Any, inputs: Any, output: Any) -> Any:
        if self.steps == self.step:
            # All of a row for the negative infinity, of which one alone forbids a token.
            entries = slice(None) if self.value == -INF else slice(3, 4)
            for row in self.rows:
                output.logits[row, :, entries] = self.value
        self.steps += 1
        return output


@pytest.mark.parametrize("value", [NAN, INF, -INF], ids=str)
@pytest.mark.parametrize("step", [0, 5, NEW - 1])
@pytest.mark.parametrize("arguments", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_others_in_the_batch_go_on(arguments: dict[str, Any], step: int, value: float) -> None:
    model, prompts = tiny_model("qwen2"), prompts_of()
    whole = written(model, prompts, None, arguments)["original"]
    hurt = Hurt(model, [1, 3], step, value)
    found = written(model, prompts, None, arguments)["original"]
    hurt.hook.remove()
    expected = [Continuation((), True) if row in (1, 3) else whole[row] for row in range(5)]
    # A row that has ended draws no less, so that others draw what they did.
    assert found == expected


def test_a_single_minus_infinity_forbids_a_token_and_breaks_nothing() -> None:
    model, prompts = tiny_model("qwen2"), prompts_of()
    taken = written(model, prompts)["original"][0].tokens[0]
    found = written(model, prompts, None, GREEDY | {"suppress_tokens": [taken]})["original"]
    assert found[0].tokens[0] != taken
    assert not any(row.broken for row in found)


def test_what_comes_after_the_end_breaks_nothing() -> None:
    model, prompts = tiny_model("qwen2"), prompts_of()
    whole = written(model, prompts)["original"]
    end = whole[1].tokens[2]
    assert end not in whole[1].tokens[:2]
    before = written(model, prompts, end_ids={end})["original"]
    for step, broken in ((2, True), (3, False), (NEW - 1, False)):
        hurt = Hurt(model, [1], step, NAN)
        found = written(model, prompts, end_ids={end})["original"]
        hurt.hook.remove()
        assert found[1] == (Continuation((), True) if broken else before[1])
        assert found[0] == before[0]


@pytest.mark.parametrize("arguments", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_without_a_token_that_ends_texts_what_is_broken_is_so(arguments: dict[str, Any]) -> None:
    model, prompts = tiny_model("qwen2"), prompts_of()
    hurt = Hurt(model, [0, 1, 2, 3, 4], 4, NAN)
    found = written(model, prompts, None, arguments, end_ids=(), pad_id=0)["original"]
    hurt.hook.remove()
    assert found == BROKEN


# -- one text to each prompt -------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"num_beams": 2}, {"num_return_sequences": 2}], ids=str)
def test_several_texts_to_a_prompt_are_refused(more: dict[str, Any]) -> None:
    model, prompts = tiny_model("llama"), prompts_of()
    with pytest.raises(ValueError, match="5 prompts have 10 texts, not one each"):
        written(model, prompts, None, SAMPLED | more)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ids: {"sequences": ids}, "it returns dict, not token ids"),
        (lambda ids: ids[:, 1:], "the texts do not begin with their prompts"),
        (lambda ids: ids[:3], "the texts do not begin with their prompts"),
        (lambda ids: torch.cat([ids, ids], 1), "new tokens come of 12 choices"),
    ],
)
def test_what_is_no_text_after_each_prompt_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], object], says: str
) -> None:
    model = tiny_model("llama")
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: change(generate(**given)))
    with pytest.raises(ValueError, match=says):
        written(model, prompts_of(), end_ids=())
