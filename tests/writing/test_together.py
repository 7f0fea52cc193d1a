"""Models that write as rows of one batch write what they write one after the other."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, MambaConfig, PreTrainedModel

from harness.base import shards
from harness.outliers import Patch
from harness.outliers.intervention import Intervention
from harness.probes import Observer, Sites
from harness.writing import rows
from harness.writing import together as subject
from harness.writing.generate import Continuation
from harness.writing.reads import NotByRowError
from tests.models.families import ALL, ReachesInside, model_of, odd_model, patch_of
from tests.tiny import tiny_model
from tests.writing.together import (
    END,
    GREEDY,
    NEW,
    SAMPLED,
    SETTINGS,
    batch,
    changed,
    together,
    variants,
    write,
)


@pytest.fixture(autouse=True)
def _any_share(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """In models as tiny as these a few entries are many."""
    if "share" not in request.node.name:
        monkeypatch.setattr(subject, "_MOST", 10)


def state(model: nn.Module) -> list[Any]:
    """Bits of all weights, and what is put in place of a module's own."""
    return [
        [weight.detach().clone().view(torch.int32).tolist() for weight in model.parameters()],
        [
            (len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in m.__dict__)
            for m in model.modules()
        ],
    ]


def tokens(written: Mapping[str, Sequence[Continuation]]) -> dict[str, list[tuple[int, ...]]]:
    return {name: [text.tokens for text in texts] for name, texts in written.items()}


def ends_of(
    model: PreTrainedModel,
    models: Mapping[str, Intervention | None],
    arguments: Mapping[str, Any] = GREEDY,
) -> set[int]:
    """Tokens by which some texts end early, others late."""
    texts = tokens(write(model, models, arguments, end_ids=()))
    return {END, texts["original"][0][4], texts["everywhere"][1][7]}


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", SETTINGS)
@pytest.mark.parametrize("family", ALL)
def test_texts_are_those_of_one_after_the_other(family: str, how: str) -> None:
    model, arguments = model_of(family), SETTINGS[how]
    models = variants(model)
    ends, before = ends_of(model, models, arguments), state(model)
    executor = together(arguments)
    expected = write(model, models, arguments, end_ids=ends)
    found = write(model, models, arguments, end_ids=ends, executor=executor)
    assert found == expected
    assert list(found) == list(expected)
    lengths = {len(text) for texts in tokens(found).values() for text in texts}
    assert min(lengths) >= arguments.get("min_new_tokens", 0)
    assert len(lengths) > 1 or how == "at least"
    assert len({str(texts) for texts in found.values()}) > 2
    assert state(model) == before


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "qwen2", "opt", "cohere"])
def test_all_of_them_go_together(family: str) -> None:
    model = model_of(family)
    models, executor, calls = variants(model), together(), list[int]()
    assert executor.groups(model, models) == [tuple(models)]
    assert executor.reasons == {}
    with model.register_forward_pre_hook(lambda *_: calls.append(1)):
        write(model, models, end_ids=(), executor=executor)
    # Found out once: the second time there is no trial.
    assert len(calls) == NEW


@pytest.mark.parametrize("kind", ["mlp", "embed_tokens", "norm", "bias", "lm_head", "q_proj"])
def test_each_kind_of_parameter(kind: str) -> None:
    model = tiny_model("qwen2") if kind == "bias" else tiny_model("llama")
    with torch.no_grad():  # which are zero in new models
        for name, weight in model.named_parameters():
            if "bias" in name:
                weight.copy_(torch.linspace(-1, 1, len(weight)))
    models = {"original": None, "one": changed(model, lambda n: kind in n, 1)}
    models["other"] = changed(model, lambda name: kind in name, 2)
    executor = together()
    assert write(model, models, executor=executor) == write(model, models)
    assert executor.groups(model, models) == [tuple(models)]


def test_a_tied_parameter_is_found_by_each_of_its_names() -> None:
    model = tiny_model("qwen2")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    values = {3 * 32 + 5: 2.0, 40 * 32 + 7: -3.0}
    models = {
        "one": patch_of(model, {"model.embed_tokens.weight": values}),
        "same": Patch(
            tuple(
                type(t)("lm_head.weight", t.shape, t.index, t.old, t.new)
                for t in patch_of(model, {"model.embed_tokens.weight": values}).tensors
            )
        ),
    }
    found = write(model, models, executor=together())
    assert found == write(model, models)
    assert found["one"] == found["same"] != write(model, {"original": None})["original"]


@pytest.mark.parametrize("arguments", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_what_is_not_finite_stays_with_its_model(arguments: dict[str, Any]) -> None:
    model = tiny_model("llama")
    name = "model.layers.1.mlp.down_proj.weight"
    models = {
        "original": None,
        "nan": patch_of(model, {name: {5: float("nan")}}),
        "infinite": patch_of(model, {name: {7: float("inf"), 8: float("-inf")}}),
        "other": changed(model, seed=4),
    }
    found = write(model, models, arguments, executor=together(arguments))
    assert found == write(model, models, arguments)
    assert all(text.broken for text in found["nan"])
    assert not any(text.broken for text in found["original"])


def test_a_weight_without_which_little_is_left_leaves_no_rounding_behind() -> None:
    """In bfloat16, of an output of 30,000, the difference to none would be off by a hundred."""
    model = tiny_model("llama", dtype=torch.bfloat16)
    place = "model.layers.0.mlp.down_proj.weight"
    with torch.no_grad():
        model.get_parameter(place)[3, 4] = 3e4
    models = {"original": None, "zeroed": patch_of(model, {place: {3 * 48 + 4: 0.0}})}
    seen: dict[str, torch.Tensor] = {}
    for executor in ("one", "all"):

        @contextmanager
        def watch(names: Sequence[str], executor: str = executor) -> Iterator[None]:
            layer = model.model.layers[0].mlp.down_proj

            def keep(_: object, __: object, output: torch.Tensor) -> None:
                by_model = output.detach().view(len(names), -1, 17, 32)
                for name, own in zip(names, by_model, strict=True):
                    seen.setdefault(f"{executor} {name}", own.clone())

            with layer.register_forward_hook(keep):
                yield

        few = GREEDY | {"max_new_tokens": 1}
        chosen = {"executor": together(few)} if executor == "all" else {}
        write(model, models, few, watch=watch, **chosen)
    assert float(seen["one original"][..., 3].abs().max()) > 1000
    torch.testing.assert_close(seen["all zeroed"], seen["one zeroed"], rtol=0.02, atol=0.02)
    torch.testing.assert_close(seen["all original"], seen["one original"], rtol=0.02, atol=0.02)


def test_the_original_alone_is_not_tried() -> None:
    model, calls = tiny_model("llama"), list[int]()
    with model.register_forward_pre_hook(lambda *_: calls.append(1)):
        found = write(model, {"original": None}, end_ids=(), executor=together())
    assert len(calls) == NEW
    assert found == write(model, {"original": None}, end_ids=())


# -- who goes alone --------------------------------------------------------------------------------


class Scaled(Intervention):
    """Doubles what a layer puts out, which is no matter of weights."""

    is_identity = False
    key = "scaled"
    within = control = describe = save = None

    def applied(self, model: nn.Module) -> Any:
        layer = model.model.layers[0].mlp
        return layer.register_forward_hook(lambda _, __, output: 2 * output)


Scaled.__abstractmethods__ = frozenset()


def test_what_sets_no_entries_goes_alone() -> None:
    model, executor = tiny_model("llama"), together()
    models = {"original": None, "scaled": Scaled(), "patch": changed(model)}
    found = write(model, models, executor=executor)
    assert found == write(model, models)
    assert found["scaled"] != found["original"]
    groups = executor.groups(model, models)
    assert sorted(groups) == [("original", "patch"), ("scaled",)]
    assert executor.reasons == {"scaled": "it sets no entries"}


def test_a_model_that_is_divided_goes_through_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, executor = tiny_model("llama"), together()
    monkeypatch.setattr(shards, "is_divided", lambda _: True)
    assert all(len(names) == 1 for names in executor.groups(model, variants(model)))
    assert set(executor.reasons.values()) == {"the model is divided"}


def test_a_recurrent_model_goes_through_one_by_one() -> None:
    sizes = {"vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 2}
    torch.manual_seed(0)
    model, executor = AutoModelForCausalLM.from_config(MambaConfig(**sizes)).eval(), together()
    models = {
        "original": None,
        "lines": changed(model, lambda name: "out_proj" in name),
        "all": changed(model),
    }
    assert write(model, models, executor=executor) == write(model, models)
    assert all(len(names) == 1 for names in executor.groups(model, models))
    assert executor.reasons["all"].endswith("its module gets a DynamicCache")
    reason = "its cache is not known to be one of keys and values by row"
    assert executor.reasons["lines"] == reason


def test_a_parameter_that_is_read_from_elsewhere_is_told() -> None:
    model, executor = odd_model(ReachesInside), together()
    models = {
        "original": None,
        "tokens": changed(model, lambda name: "embed" in name),
        "mlp": changed(model, lambda name: "mlp" in name),
    }
    assert write(model, models, executor=executor) == write(model, models)
    groups = executor.groups(model, models)
    assert sorted(groups) == [("original", "mlp"), ("tokens",)]
    reason = "model.embed_tokens.weight: it is read outside of a module of its own"
    assert executor.reasons == {"tokens": reason}


def test_a_module_that_does_not_get_the_rows_is_told() -> None:
    """A bias for each position, whatever the row."""
    model, executor = tiny_model("llama"), together()
    places = nn.Embedding(64, 32)
    nn.init.normal_(places.weight)
    model.model.places = places
    layer = model.model.layers[0]

    def shifted(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output + places(torch.arange(output.shape[1]))[None]

    models = {
        "original": None,
        "places": changed(model, lambda name: "places" in name),
        "mlp": changed(model, lambda name: "mlp" in name),
    }
    with layer.register_forward_hook(shifted):
        assert write(model, models, executor=executor) == write(model, models)
        groups = executor.groups(model, models)
    assert sorted(groups) == [("original", "mlp"), ("places",)]
    assert "instead of" in executor.reasons["places"]


def stacked(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    weights = torch.stack([module.weight, module.weight])
    return nn.functional.linear(inputs, weights[0])


def kept(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return inputs @ module.kept


def by_other_calls(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(inputs.numpy() @ module.weight.detach().numpy().T)


@pytest.mark.parametrize("forward", [stacked, kept, by_other_calls])
def test_a_linear_layer_that_does_otherwise_is_told(forward: Any) -> None:
    model, executor = tiny_model("llama"), together()
    layer = model.model.layers[0].mlp.down_proj
    layer.kept = layer.weight.detach().t()  # a view, which is edited as well
    layer.forward = partial(forward, layer)
    own = "model.layers.0.mlp.down_proj"
    models = {
        "original": None,
        "down": changed(model, lambda name: own in name),
        "up": changed(model, lambda name: "up" in name),
    }
    assert write(model, models, executor=executor) == write(model, models)
    assert sorted(executor.groups(model, models)) == [("down",), ("original", "up")]
    assert executor.reasons["down"].startswith(own + ".weight: it is read outside")


@pytest.mark.parametrize(("small", "goes"), [(0, True), (2**16, False)])
def test_a_linear_layer_that_does_more(
    small: int, goes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large one goes with the others; of a small one a copy would run the original's forward."""
    monkeypatch.setattr(rows, "_SMALL", small)
    model, executor = tiny_model("llama"), together()
    layer = model.model.layers[0].mlp.down_proj
    layer.forward = lambda inputs: nn.functional.linear(inputs, layer.weight) * 2
    models = {
        "original": None,
        "down": changed(model, lambda name: "down_proj" in name),
        "up": changed(model, lambda name: "up_proj" in name),
    }
    found = write(model, models, executor=executor)
    assert found == write(model, models)
    assert (executor.groups(model, models) == [tuple(models)]) == goes


def test_a_parameter_that_takes_no_part_goes_alone() -> None:
    """As an expert that no token of the trial was sent to."""
    model, executor = tiny_model("llama"), together()
    model.model.expert = nn.Linear(4, 4)
    models = {
        "original": None,
        "expert": changed(model, lambda name: "expert" in name),
        "mlp": changed(model, lambda name: "mlp" in name),
    }
    assert write(model, models, executor=executor) == write(model, models)
    assert sorted(executor.groups(model, models)) == [("expert",), ("original", "mlp")]
    assert executor.reasons["expert"].endswith("it takes no part in a trial")


def test_too_large_a_share_of_the_weights_goes_apart() -> None:
    model, executor = tiny_model("llama"), together()
    size = sum(weight.numel() for weight in model.parameters())
    name = "model.embed_tokens.weight"

    def patch(entries: float) -> Patch:
        return patch_of(model, {name: dict.fromkeys(range(int(entries)), 0.5)})

    # Two models may have 1/32 of the weights each, three 1/48.
    models = {"original": None, "one": patch(size / 100), "two": patch(size / 110)}
    models |= {"three": patch(size / 150), "large": patch(size / 10)}
    assert executor.groups(model, models) == [("original", "one", "two"), ("three",), ("large",)]
    assert write(model, models, executor=executor) == write(model, models)


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 2, 7])
def test_an_error_leaves_nothing_behind(call: int) -> None:
    model, executor = tiny_model("gemma3"), together()
    models = variants(model)
    expected, before = write(model, models, executor=executor), state(model)
    left = iter(range(call - 1))

    def fail(*_: object) -> None:
        if next(left, None) is None:
            raise RuntimeError("on fire")

    generator = torch.get_rng_state()
    hook = model.model.layers[1].register_forward_hook(fail)
    with hook, pytest.raises(RuntimeError, match="on fire"):
        write(model, models, executor=executor)
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), generator)
    assert write(model, models, executor=executor) == expected


@pytest.mark.parametrize(
    ("error", "says"),
    [(RuntimeError("CUDA out of memory"), "memory ran out"), (NotByRowError("odd", ["a"]), "")],
)
def test_where_it_fails_they_go_one_after_the_other(
    error: Exception, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, executor = tiny_model("llama"), together()
    models = variants(model)
    expected = write(model, models)
    executor.groups(model, models)
    before, rows = state(model), list[int]()

    def fail(_: object, __: object, named: Mapping[str, Any]) -> None:
        rows.append(len(named["input_ids"]))
        if rows[-1] > 5:
            raise error

    with model.register_forward_pre_hook(fail, with_kwargs=True):
        assert write(model, models, executor=executor) == expected
        assert rows[0] == 25
        rows.clear()
        assert write(model, models, executor=executor) == expected
    assert set(rows) == {5}  # it is not tried again
    assert says in capsys.readouterr().err
    assert list(executor.reasons) == list(models)
    assert state(model) == before


def test_memory_that_runs_out_for_one_is_an_error() -> None:
    model = tiny_model("llama")

    def fail(*_: object) -> None:
        raise MemoryError

    with model.register_forward_pre_hook(fail), pytest.raises(MemoryError):
        write(model, {"original": None}, executor=together())


# -- observing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "opt"])
def test_what_is_observed_is_that_of_one_after_the_other(family: str) -> None:
    model = model_of(family)
    models, (_, mask) = variants(model), batch()
    ends = ends_of(model, models)
    observer = Observer(model, Sites().find(model))
    seen: list[dict[str, Any]] = []
    for options in ({}, {"executor": together()}):
        moments: dict[str, Any] = {}

        @contextmanager
        def watch(names: Sequence[str], kept: dict[str, Any] = moments) -> Iterator[None]:
            owners = [name for name in names for _ in range(len(mask))]
            with observer.generating(mask.repeat(len(names), 1), ends, owners) as observation:
                yield
            kept |= observation.moments

        write(model, models, end_ids=ends, watch=watch, **options)
        seen.append(moments)
    one, other = seen
    assert list(one) == list(other) == list(models)
    for name, moments in one.items():
        assert list(moments) == list(other[name])
        for where, due in moments.items():
            found = other[name][where]
            for part in ("count", "beyond", "beyond_sigmas", "massive"):
                assert getattr(found, part) == getattr(due, part), (name, where, part)
            for part in ("max_abs", "rms", "kurtosis"):
                near = pytest.approx(getattr(due, part), rel=1e-4, nan_ok=True)
                assert getattr(found, part) == near, (name, where, part)
            # Sums are of many numbers of either sign.
            size = due.count * due.rms
            assert abs(found.total - due.total) <= 1e-5 * size, (name, where)


def test_a_group_is_watched_by_the_names_of_its_models() -> None:
    model, executor = tiny_model("llama"), together()
    models, watched = variants(model), list[tuple[str, ...]]()

    def watch(names: Sequence[str]) -> Any:
        watched.append(tuple(names))
        return nullcontext()

    write(model, models, watch=watch, executor=executor)
    assert watched == [tuple(models)]


def test_an_original_that_has_changed_writes_as_it_is_now() -> None:
    model, executor = tiny_model("llama"), together()
    models = {"original": None, "mlp": changed(model, lambda name: "mlp" in name)}
    first = write(model, models, executor=executor)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(torch.linspace(-1, 1, weight.shape[-1]))
    second = write(model, models, executor=executor)
    assert second == write(model, models) != first


def test_groups_are_remembered_by_what_is_done() -> None:
    model, executor = tiny_model("llama"), together()
    models = variants(model)
    first = executor.groups(model, models)
    assert executor.groups(model, dict(models)) is first
    assert executor.groups(model, models | {"small": copy.copy(models["small"])}) is not first
