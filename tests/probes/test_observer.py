"""What the observer says, against activations that are stored whole and measured in fp64."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM, PreTrainedModel

from harness.errors import ConfigError
from harness.probes import (
    RESIDUAL,
    Massive,
    Moments,
    Observation,
    Observer,
    Sites,
    Thresholds,
    Where,
)
from tests.models.families import ALL, model_of
from tests.tiny import FAMILIES, tiny_model

# Low enough that the tiny models have some of each.
THRESHOLDS = Thresholds(0.5, 2.0)
MASSIVE = Massive(0.5, 3.0)
PAD = 258
MODEL = "original"
LENGTHS = (12, 7, 1, 12, 4)


def batch_of(*lengths: int, seed: int = 1, side: str = "right") -> tuple[Tensor, Tensor]:
    """Ids and mask of rows of some lengths, padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.full((len(lengths), width), PAD)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        place = slice(0, length) if side == "right" else slice(width - length, width)
        ids[row, place] = torch.randint(0, 250, (length,), generator=generator)
        mask[row, place] = 1
    return ids, mask


def observer_of(model: nn.Module, sites: Sites | None = None) -> Observer:
    return Observer(model, (sites or Sites()).find(model), THRESHOLDS, MASSIVE)


# -- the reference -----------------------------------------------------------------------------


@contextmanager
def stored(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The last output of every module, whole."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            if isinstance(tensor, Tensor):
                outputs[name] = tensor.detach().clone()

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def by_token(name: str, output: Tensor, rows: int, length: int) -> np.ndarray:
    """An output by row and token [B, T, D], as the architectures at hand lay it out."""
    if name.endswith(("q_norm", "k_norm")):
        assert output.shape[2] == length
        output = output.transpose(1, 2)
    return output.double().reshape(rows, length, -1).numpy()


def massive_flags(text: np.ndarray) -> np.ndarray:
    magnitudes = np.abs(text)
    median = np.sort(magnitudes.flatten())[(magnitudes.size - 1) // 2]
    return (magnitudes > MASSIVE.absolute) & (magnitudes > MASSIVE.ratio * median)


@dataclass
class Naive:
    """All values of one site in one phase and part, in groups that are measured together."""

    groups: list[np.ndarray] = field(default_factory=list)
    massive: int = 0

    def figures(self) -> dict[str, float]:
        x = np.concatenate(self.groups)
        mean, std = x.mean(), x.std()
        far = [np.abs(g - g.mean()) > THRESHOLDS.sigmas * g.std() for g in self.groups]
        return {
            "count": x.size,
            "max_abs": np.abs(x).max(),
            "mean": mean,
            "rms": math.sqrt((x**2).mean()),
            "kurtosis": ((x - mean) ** 4).mean() / std**4,
            "beyond": int((np.abs(x) > THRESHOLDS.absolute).sum()),
            "beyond_sigmas": int(sum(flags.sum() for flags in far)),
            "massive": self.massive,
        }


Reference = dict[tuple[str, str, str], Naive]


def check(
    seen: Observation,
    reference: Reference,
    model: nn.Module,
    rel: float,
    off: int,
    owner: str = MODEL,
) -> None:
    """Compares everything: figures to a relative error, counts of outliers to within a few."""
    found = seen.moments[owner]
    sites = Sites().find(model)
    text_sites = {site.name for site in sites if "vision" not in site.name}
    text_sites.discard("model.multi_modal_projector.mm_soft_emb_norm")
    assert {key.site.name for key in found} == text_sites
    assert {key.site for key in found} <= set(sites)
    assert {(key.site.name, key.phase, key.part) for key in found} == {
        key for key in reference if key[0] in text_sites
    }
    assert not seen.unplaced
    for key, moments in found.items():
        expected = reference[key.site.name, key.phase, key.part].figures()
        if key.site.kind != RESIDUAL:
            expected["massive"] = 0
        for name, value in expected.items():
            if name in ("beyond", "beyond_sigmas", "massive"):
                want = pytest.approx(value, abs=off, rel=0)
            elif name == "count":
                want = value
            elif name == "mean":
                want = pytest.approx(value, rel=rel, abs=rel * expected["rms"])
            else:
                want = pytest.approx(value, rel=rel)
            assert getattr(moments, name) == want, (key, name)
    totals = Moments.sum(found.values())
    assert min(totals.beyond, totals.beyond_sigmas, totals.massive) > 10


def reference_of(
    outputs: Mapping[str, Tensor], mask: Tensor, of: Collection[int] | None = None
) -> Reference:
    """One forward pass over a padded batch, all of its rows or some."""
    rows, length = mask.shape
    result: Reference = defaultdict(Naive)
    for name, output in outputs.items():
        if output.numel() % mask.numel() or not output.is_floating_point():
            continue
        hidden = by_token(name, output, rows, length)
        parts: dict[str, list[np.ndarray]] = {"first": [], "rest": []}
        for row in range(rows) if of is None else of:
            text = hidden[row][mask[row].bool().numpy()]
            flags = massive_flags(text)
            for part, where in (("first", slice(0, 1)), ("rest", slice(1, None))):
                parts[part].append(text[where].flatten())
                result[name, "prefill", part].massive += int(flags[where].sum())
        for part, groups in parts.items():
            result[name, "prefill", part].groups.append(np.concatenate(groups))
    return result


# -- likelihood: padding on the right ----------------------------------------------------------


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_site_against_stored_activations(family: str, side: str) -> None:
    model = model_of(family)
    ids, mask = batch_of(*LENGTHS, side=side)
    with torch.inference_mode():
        with observer_of(model).watching(mask, MODEL) as seen:
            model(ids, attention_mask=mask)
        with stored(model) as outputs:
            model(ids, attention_mask=mask)
    check(seen, reference_of(outputs, mask), model, rel=1e-5, off=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    model = model_of("llama", dtype)
    ids, mask = batch_of(*LENGTHS)
    with torch.inference_mode():
        with observer_of(model).watching(mask, MODEL) as seen:
            model(ids, attention_mask=mask)
        with stored(model) as outputs:
            model(ids, attention_mask=mask)
    check(seen, reference_of(outputs, mask), model, rel=1e-5, off=0)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "opt", "qwen2"])
def test_what_stands_in_the_padding_does_not_matter(family: str) -> None:
    model = model_of(family)
    ids, mask = batch_of(*LENGTHS)
    model.get_input_embeddings().weight.data[PAD] *= 1000
    with torch.inference_mode():
        with observer_of(model).watching(mask, MODEL) as padded:
            model(ids, attention_mask=mask)
        with observer_of(model).watching(mask, MODEL) as filled:
            model(torch.where(mask == 1, ids, 7), attention_mask=mask)
    assert padded.moments[MODEL].keys() == filled.moments[MODEL].keys()
    for key, moments in padded.moments[MODEL].items():
        assert vars(moments) == pytest.approx(vars(filled.moments[MODEL][key]), rel=1e-5)


def test_passes_in_one_block_add_up() -> None:
    model = tiny_model("llama")
    ids, mask = batch_of(*LENGTHS)
    observer = observer_of(model)
    with torch.inference_mode():
        with observer.watching(mask, MODEL) as once:
            model(ids, attention_mask=mask)
        with observer.watching(mask, MODEL) as twice:
            model(ids, attention_mask=mask)
            model(ids, attention_mask=mask)
    assert twice.moments == {
        MODEL: {key: moments + moments for key, moments in once.moments[MODEL].items()}
    }


def test_thresholds_unless_told_otherwise() -> None:
    observer = Observer(tiny_model("llama"), [])
    assert (observer.thresholds, observer.massive) == (Thresholds(6.0, 6.0), Massive(100.0, 1000.0))


def test_a_text_with_nan_does_not_hide_the_massive_of_others() -> None:
    model = tiny_model("llama")
    model.get_input_embeddings().weight.data[7] = math.nan
    model.get_input_embeddings().weight.data[8] *= 100
    ids = torch.tensor([[7, 1, 2, 3], [8, 1, 2, 3]])
    block = Sites(types=[], include=["model.layers.0"])
    for rows in (slice(0, 2), slice(1, 2)):
        mask = torch.ones_like(ids[rows])
        with torch.inference_mode(), observer_of(model, block).watching(mask, MODEL) as seen:
            model(ids[rows], attention_mask=mask)
        (first,) = (m.massive for key, m in seen.moments[MODEL].items() if key.part == "first")
        if rows.start == 0:
            beside = first
    assert beside == first > 0


class Pooled(nn.Module):
    """Its second layer sees one vector for a whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.pool = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.each(x)
        return hidden, self.pool(hidden.sum((0, 1))[None])


def test_what_has_no_place_in_the_text_is_left_out_and_named() -> None:
    model = Pooled()
    mask = torch.ones(2, 3, dtype=torch.int64)
    with observer_of(model).watching(mask, MODEL) as seen:
        model(torch.ones(2, 3, 4))
    assert seen.unplaced == {("pool", "prefill")}
    assert {key.site.name for key in seen.moments[MODEL]} == {"each"}


# -- observing changes nothing -----------------------------------------------------------------


def hooks(model: nn.Module) -> int:
    names = [name for name in vars(nn.Module()) if name.endswith("hooks")]
    assert {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks"} <= set(names)
    return sum(len(getattr(module, name)) for module in model.modules() for name in names)


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_are_the_same_bits(family: str, dtype: torch.dtype) -> None:
    model = model_of(family, dtype)
    ids, mask = batch_of(*LENGTHS)
    with torch.inference_mode():
        before = model(ids, attention_mask=mask).logits
        with observer_of(model).watching(mask, MODEL) as seen:
            during = model(ids, attention_mask=mask).logits
        after = model(ids, attention_mask=mask).logits
    assert seen.moments[MODEL]
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert hooks(model) == 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_gradients_are_the_same_bits(family: str) -> None:
    model = model_of(family)
    ids, mask = batch_of(*LENGTHS)
    found = []
    for observed in (False, True):
        model.zero_grad()
        if observed:
            with observer_of(model).watching(mask, MODEL) as seen:
                logits = model(ids, attention_mask=mask).logits
            assert seen.moments[MODEL]
        else:
            logits = model(ids, attention_mask=mask).logits
        logits[mask == 1].square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral"])
def test_generations_are_the_same(family: str) -> None:
    model = model_of(family)
    ids, mask = batch_of(5, 9, side="left")
    before = generate(model, ids, mask, {257})
    with observer_of(model).generating(mask, {257}, MODEL) as seen:
        during = generate(model, ids, mask, {257})
    assert seen.moments[MODEL]
    assert torch.equal(before, during)
    assert hooks(model) == 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["watching", "generating"])
def test_no_hook_is_left_after_an_error(error: type[BaseException], way: str) -> None:
    model = tiny_model("llama")
    ids, mask = batch_of(*LENGTHS, side="left")
    observer = observer_of(model)
    during: list[int] = []

    def broken(*_: object) -> None:
        during.append(hooks(model))
        raise error

    model.model.layers[1].mlp.forward = broken
    with pytest.raises(error):  # noqa: PT012, SIM117
        with (
            observer.watching(mask, MODEL)
            if way == "watching"
            else observer.generating(mask, {257}, MODEL)
        ):
            if way == "watching":
                model(ids, attention_mask=mask)
            else:
                generate(model, ids, mask, {257})
    assert during == [len(observer.sites) + (way == "generating")]
    assert hooks(model) == 0


def test_no_hook_is_left_where_one_cannot_be_set() -> None:
    model = tiny_model("llama")
    observer = observer_of(model)
    del model.model.layers[1].mlp.down_proj
    with pytest.raises(AttributeError), observer.watching(torch.ones(1, 1), MODEL):
        raise AssertionError
    assert hooks(model) == 0


def compiled_around(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


def compiled_in_part(model: nn.Module) -> nn.Module:
    model.get_submodule("model.layers.0.mlp").compile(backend="eager")
    return model


def compiled_around_a_part(model: nn.Module) -> nn.Module:
    model.model.layers[0].mlp = torch.compile(model.model.layers[0].mlp, backend="eager")
    return model


@pytest.mark.parametrize(
    ("compiled", "name"),
    [
        (compiled_around, "OptimizedModule"),
        (compiled_in_place, "LlamaForCausalLM"),
        (compiled_in_part, "model.layers.0.mlp"),
        (compiled_around_a_part, "model.layers.0.mlp"),
    ],
)
@pytest.mark.parametrize("way", ["watching", "generating"])
def test_compiled_models_are_refused(
    compiled: Callable[[nn.Module], nn.Module], name: str, way: str
) -> None:
    model = compiled(tiny_model("llama"))
    observer = observer_of(model)
    with pytest.raises(ConfigError, match=f"^activations.enabled=True: {name} is compiled"):  # noqa: SIM117
        with (
            observer.watching(torch.ones(1, 1), MODEL)
            if way == "watching"
            else observer.generating(torch.ones(1, 1), (), MODEL)
        ):
            raise AssertionError
    assert hooks(model) == 0


# -- generation: padding on the left -----------------------------------------------------------

NEW = 10


def generate(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor | None,
    end_ids: Collection[int],
    **options: object,
) -> Tensor:
    arguments = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD} | options
    return model.generate(ids, attention_mask=mask, eos_token_id=list(end_ids), **arguments)


def ends(continuations: Tensor, end_ids: Collection[int]) -> list[int]:
    """How many tokens each row generates, the one that ends it among them."""
    lengths = []
    for row in continuations.tolist():
        places = [k for k, token in enumerate(row) if token in end_ids]
        lengths.append(places[0] + 1 if places else len(row))
    return lengths


def ends_that_differ(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> set[int]:
    """Ids by which rows end after one token, in the middle and not at all."""
    free = generate(model, ids, mask, [259])[:, ids.shape[1] :]
    candidates = free.unique().tolist()
    for chosen in itertools.combinations(candidates, 2):
        lengths = ends(free, chosen)
        if any(1 < n < NEW - 1 for n in lengths) and NEW in lengths and len(set(lengths)) > 2:
            return set(chosen)
    raise AssertionError("no such ids; take another seed")


def alone(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, sequences: Tensor, end_ids: Collection[int]
) -> tuple[Reference, list[int]]:
    """Each text by itself, from its first token to the last but one, in a single pass."""
    width = ids.shape[1]
    lengths = ends(sequences[:, width:], end_ids)
    result: Reference = defaultdict(Naive)
    prompts: dict[str, dict[str, list[np.ndarray]]] = {}
    steps: dict[str, dict[int, list[np.ndarray]]] = {}
    for row, generated in enumerate(lengths):
        prompt = ids[row][mask[row].bool()]
        whole = torch.cat([prompt, sequences[row, width : width + generated]])[:-1]
        with torch.inference_mode(), stored(model) as outputs:
            model(whole[None])
        for name, output in outputs.items():
            if output.numel() % len(whole) or not output.is_floating_point():
                continue
            text = by_token(name, output, 1, len(whole))[0]
            before, after = text[: len(prompt)], text[len(prompt) :]
            assert len(after) == generated - 1
            flags = massive_flags(before)
            parts = prompts.setdefault(name, {"first": [], "rest": []})
            for part, where in (("first", slice(0, 1)), ("rest", slice(1, None))):
                parts[part].append(before[where].flatten())
                result[name, "prefill", part].massive += int(flags[where].sum())
            for step, values in enumerate(after):
                steps.setdefault(name, {}).setdefault(step, []).append(values)
    for name, parts in prompts.items():
        for part, groups in parts.items():
            result[name, "prefill", part].groups.append(np.concatenate(groups))
        for groups in steps.get(name, {}).values():
            result[name, "decode", "rest"].groups.append(np.concatenate(groups))
    return result, lengths


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_against_each_text_alone(family: str) -> None:
    model = tiny_model(family)
    ids, mask = batch_of(5, 9, 2, 9, 14, side="left")
    end_ids = ends_that_differ(model, ids, mask)
    with observer_of(model).generating(mask, end_ids, MODEL) as seen:
        sequences = generate(model, ids, mask, end_ids)
    reference, lengths = alone(model, ids, mask, sequences, end_ids)
    check(seen, reference, model, rel=1e-4, off=2)
    # Every token that was fed, and none twice: one value per feature.
    features = model.config.hidden_size
    counts = {
        (key.phase, key.part): moments.count / features
        for key, moments in seen.moments[MODEL].items()
        if key.site.kind == RESIDUAL and key.site.layer == 0
    }
    assert counts == {
        ("prefill", "first"): len(ids),
        ("prefill", "rest"): int(mask.sum()) - len(ids),
        ("decode", "rest"): sum(lengths) - len(ids),
    }


def test_what_is_made_again_of_a_cached_latent_is_no_new_token() -> None:
    """DeepSeek makes keys and values of all tokens before at every step."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8}
    ranks = {"q_lora_rank": 16, "kv_lora_rank": 16, "v_head_dim": 8, "vocab_size": 260}
    config = DeepseekV3Config(**sizes, **heads, **ranks, first_k_dense_replace=2)
    torch.manual_seed(0)
    model = DeepseekV3ForCausalLM(config).eval()
    ids, mask = batch_of(5, 9, 2, side="left")
    with observer_of(model).generating(mask, {259}, MODEL) as seen:
        generate(model, ids, mask, {259})
    remade = {f"model.layers.{layer}.self_attn.kv_b_proj" for layer in (0, 1)}
    assert seen.unplaced == {(name, "decode") for name in remade}
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    counted = {k.site.name: m.count for k, m in seen.moments[MODEL].items() if k.phase == "decode"}
    for name in linear.keys() & counted.keys():
        assert counted[name] == len(ids) * (NEW - 1) * linear[name].out_features
    assert not remade & counted.keys()
    read = {
        k.site.name: m.count for k, m in seen.moments[MODEL].items() if k[1:] == ("prefill", "rest")
    }
    assert remade <= read.keys()
    for name in remade:
        assert read[name] == (int(mask.sum()) - len(ids)) * linear[name].out_features


@pytest.mark.parametrize("handed", ["mask", "no mask"])
@pytest.mark.parametrize("rows", [1, 3])
def test_prompts_without_padding(handed: str, rows: int) -> None:
    """`generate` then hands the model no mask at all."""
    model = tiny_model("llama")
    ids, mask = batch_of(*[6] * rows)
    with observer_of(model).generating(mask, {257}, MODEL) as seen:
        sequences = generate(model, ids, mask if handed == "mask" else None, {257})
    reference, _ = alone(model, ids, mask, sequences, {257})
    check(seen, reference, model, rel=1e-4, off=2)


def test_without_a_cache() -> None:
    model = tiny_model("llama")
    ids, mask = batch_of(5, 9, 2, 9, 14, side="left")
    end_ids = ends_that_differ(model, ids, mask)
    with observer_of(model).generating(mask, end_ids, MODEL) as seen:
        sequences = generate(model, ids, mask, end_ids, use_cache=False)
    check(seen, alone(model, ids, mask, sequences, end_ids)[0], model, rel=1e-4, off=2)


def test_prompts_that_hold_an_end() -> None:
    """A chat template puts ends of turns into prompts; also at their very end."""
    model = tiny_model("qwen2")
    ids, mask = batch_of(5, 9, 7, side="left")
    end_ids = ends_that_differ(model, ids, mask) | {257}
    ids[0, -1] = ids[1, 3] = 257
    with observer_of(model).generating(mask, end_ids, MODEL) as seen:
        sequences = generate(model, ids, mask, end_ids)
    check(seen, alone(model, ids, mask, sequences, end_ids)[0], model, rel=1e-4, off=2)


def test_the_last_token_is_never_fed() -> None:
    model = tiny_model("llama")
    ids, mask = batch_of(5, 9, side="left")
    with observer_of(model).generating(mask, {257}, MODEL) as seen:
        generate(model, ids, mask, {257}, max_new_tokens=1)
    assert {(key.phase, key.part) for key in seen.moments[MODEL]} == {
        ("prefill", "first"),
        ("prefill", "rest"),
    }


def test_an_observation_begins_anew() -> None:
    model = tiny_model("llama")
    ids, mask = batch_of(5, 9, side="left")
    observer = observer_of(model)
    found = []
    for _ in range(2):
        with observer.generating(mask, {257}, MODEL) as seen:
            generate(model, ids, mask, {257})
        found.append(seen)
    assert found[0].moments == found[1].moments
    assert all(isinstance(key, Where) for key in found[0].moments[MODEL])
