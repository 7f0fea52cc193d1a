"""The experiment from one end to the other, against few independent lines per claim."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from pyarrow import parquet
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from transformers import PreTrainedModel

from harness.errors import ConfigError
from harness.evaluation.design import NOISE_FLOOR, ROUNDING
from harness.evaluation.experiment import OutlierExperiment
from harness.evaluation.summary import summarise
from harness.evaluation.training import Training
from harness.models import Pretrained
from harness.outliers import (
    AbsoluteThreshold,
    Clip,
    Criterion,
    Edit,
    Epsilon,
    Scope,
    SigmaThreshold,
    TopFraction,
)
from harness.outliers.rounding import nudged
from harness.outliers.variants import VariantConfig
from harness.results.codec import to_json
from harness.results.schema import Results, VariantRecord
from harness.scoring.histogram import RELATIVE_ERROR
from harness.tracking import HuggingFaceCheckpoint, RunLogger, RunRecorder
from harness.writing.settings import Generation
from tests.running import Ran, again, run
from tests.tiny import FAMILIES, save_tiny, tiny_model, tiny_tokenizer

PROTOCOLS = Path(__file__).parents[2] / "configs" / "protocols"
LENGTH = 24
BOS = 256
DOCUMENTS = [
    "The quick brown fox jumps over the lazy dog, as it has done since 1885.",
    "  Where white space stands at the ends, there are two words more. ",
    "",
    "Füße, naïve: bytes are not letters, and letters are no words.",
    "x",
    "Exactly 24 bytes of text",
    "Exactly twenty-four and a byte!"[:25],
    "One window is not enough for this document. " * 3,
]


# -- what the tests share ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of a family."""
    saved: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in saved:
            saved[family] = save_tiny(tmp_path_factory.mktemp("models") / family, family)
        return saved[family]

    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return path


def protocol(name: str) -> dict[str, Any]:
    keys = yaml.safe_load((PROTOCOLS / f"{name}.yaml").read_text())["data"]
    return {key: keys[key] for key in ("join", "windows", "bos", "detokenizer")}


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


# -- independent references --------------------------------------------------------------------


def rolling_windows(ids: list[int], length: int, context: int) -> Iterator[tuple[list, list]]:
    """lm-evaluation-harness: pairs of what is seen and what is predicted, each token once."""
    first = ids[:length]
    yield [BOS, *first[:-1]], first
    done = len(first)
    while done < len(ids):
        end = min(done + length - context + 1, len(ids))
        yield ids[end - length - 1 : end - 1], ids[done:end]
        done = end


def disjoint(seen: list[int], predicted: list[int]) -> tuple[list[int], list[int]]:
    """lm-evaluation-harness: context that holds none of what is predicted."""
    return seen[: len(seen) - (len(predicted) - 1)], predicted


@torch.no_grad()
def log_probs(model: PreTrainedModel, context: list[int], predicted: list[int]) -> Tensor:
    """Of the whole vocabulary at each predicted token, fp64 [n, V]."""
    logits = model(torch.tensor([(context + predicted)[:-1]])).logits[0]
    return logits[-len(predicted) :].double().log_softmax(-1)


def lm_eval(model: PreTrainedModel, texts: list[str], length: int, context: int) -> dict[str, Any]:
    total = words = size = 0.0
    for text in texts:
        for pair in rolling_windows(ids_of(text), length, context):
            before, predicted = disjoint(*pair)
            likelihoods = log_probs(model, before, predicted)
            total += float(likelihoods[range(len(predicted)), predicted].sum())
        words += len(re.split(r"\s+", text))
        size += len(text.encode())
    return {
        "word_perplexity": math.exp(-total / words),
        "byte_perplexity": math.exp(-total / size),
        "bits_per_byte": -total / (size * math.log(2)),
    }


@torch.no_grad()
def strided(model: PreTrainedModel, text: str, length: int, stride: int) -> float:
    ids = torch.tensor([ids_of(text)])
    total, scored, previous = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + length, ids.shape[1])
        window = ids[:, begin:end]
        targets = window.clone()
        targets[:, : -(end - previous)] = -100
        logits = model(window).logits[0, :-1].double()
        total += float(torch.nn.functional.cross_entropy(logits, targets[0, 1:], reduction="sum"))
        scored += int((targets[0, 1:] != -100).sum())
        previous = end
        if end == ids.shape[1]:
            break
    return math.exp(total / scored)


@torch.no_grad()
def gptq(model: PreTrainedModel, text: str, length: int) -> float:
    ids = torch.tensor([[BOS, *ids_of(text)]])
    means = []
    for i in range(ids.shape[1] // length):
        window = ids[:, i * length : (i + 1) * length]
        logits = model(window).logits[0, :-1]
        means.append(torch.nn.functional.cross_entropy(logits, window[0, 1:]).item() * length)
    return math.exp(sum(means) / (len(means) * length))


@dataclass
class Naive:
    """Scores of every token of the documents, in lm-evaluation-harness' windows, fp64."""

    nll: np.ndarray
    log_probs: np.ndarray

    @classmethod
    def of(cls, model: PreTrainedModel) -> Naive:
        rows, targets = [], []
        for text in filter(None, DOCUMENTS):
            for pair in rolling_windows(ids_of(text), LENGTH, 1):
                before, predicted = disjoint(*pair)
                rows.append(log_probs(model, before, predicted).numpy())
                targets += predicted
        whole = np.concatenate(rows)
        return cls(-whole[np.arange(len(whole)), targets], whole)


# -- perplexity --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stride", [None, 10])
def test_lm_eval_perplexity(
    family: str, stride: int | None, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    keys = protocol("lm-eval") | {"stride": stride, "max_length": LENGTH}
    ran = run(folders(family), corpus, tmp_path, **keys)
    context = LENGTH - (stride or LENGTH) + 1
    texts = list(filter(None, DOCUMENTS))
    expected = lm_eval(tiny_model(family), texts, LENGTH, context)
    found = vars(ran.results.variants["original"].likelihood)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    assert ran.results.data.tokens == sum(len(ids_of(text)) for text in texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_strided_perplexity(family: str, folders: Any, corpus: Path, tmp_path: Path) -> None:
    keys = protocol("hf-strided") | {"stride": 9, "max_length": LENGTH}
    found = run(folders(family), corpus, tmp_path, **keys).results.variants["original"].likelihood
    expected = strided(tiny_model(family), "\n\n".join(DOCUMENTS), LENGTH, 9)
    assert found.perplexity == pytest.approx(expected, rel=1e-5)
    assert found.word_perplexity is None


@pytest.mark.parametrize("family", FAMILIES)
def test_gptq_perplexity(family: str, folders: Any, corpus: Path, tmp_path: Path) -> None:
    keys = protocol("gptq") | {"max_length": LENGTH}
    found = run(folders(family), corpus, tmp_path, **keys).results.variants["original"].likelihood
    expected = gptq(tiny_model(family), "\n\n".join(DOCUMENTS), LENGTH)
    assert found.perplexity == pytest.approx(expected, rel=1e-5)
    assert found.word_perplexity is None


# -- variants ----------------------------------------------------------------------------------

VARIANTS = {
    "zeroed": VariantConfig(AbsoluteThreshold(0.5), scope=Scope(matrices_only=True), controls=2),
    "clipped": VariantConfig(SigmaThreshold(3.0), Clip(), Scope(matrices_only=True)),
    "small": VariantConfig(TopFraction(0.01), Epsilon(1e-3)),
}
VARIED = ["llama", "qwen2", "gemma2", "gpt2", "mixtral"]


def edited(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """A copy of the model with the edits of a variant, made tensor by tensor."""
    model = copy.deepcopy(model)
    for weight in model.parameters():  # tied ones once
        values = weight.data
        if name == "zeroed" and values.dim() >= 2:
            values[values.abs() > 0.5] = 0
        elif name == "clipped" and values.dim() >= 2:
            mean, reach = values.double().mean(), 3 * values.double().std()
            clipped = values.double().clamp(mean - reach, mean + reach).float()
            values.copy_(clipped)
        elif name == "small" and (count := values.numel() // 100):
            order = values.flatten().abs().argsort(descending=True, stable=True)
            entries = values.view(-1)
            entries[order[:count]] = torch.full((count,), 1e-3).copysign(entries[order[:count]])
    return model


@pytest.fixture(scope="session")
def measured(
    folders: Any, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Ran]:
    """A run with all three variants on a family."""
    runs: dict[str, Ran] = {}

    def of(family: str) -> Ran:
        if family not in runs:
            logs = tmp_path_factory.mktemp("logs")
            options = {"variants": VARIANTS}
            runs[family] = run(folders(family), corpus, logs, model=options, max_length=LENGTH)
        return runs[family]

    return of


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("family", VARIED)
def test_figures_are_those_of_an_edited_copy(family: str, name: str, measured: Any) -> None:
    model = tiny_model(family)
    original, variant = Naive.of(model), Naive.of(edited(model, name))
    found = measured(family).results.variants[name]
    changed = [
        (new != old).sum().item()
        for new, old in zip(edited(model, name).parameters(), model.parameters(), strict=True)
    ]
    assert found.edit.entries == sum(changed) > 0
    assert found.likelihood.nll == pytest.approx(variant.nll.mean(), rel=1e-6)
    versus = found.versus_original
    delta = variant.nll.mean() - original.nll.mean()
    assert versus.delta_nll == pytest.approx(delta, rel=1e-4, abs=2e-6)
    assert versus.perplexity_ratio == pytest.approx(math.exp(delta), rel=1e-5)
    p, q = original.log_probs, variant.log_probs
    kl = (np.exp(p) * (p - q)).sum(-1)
    assert versus.kl_mean == pytest.approx(kl.mean(), rel=1e-4)
    assert versus.kl_max == pytest.approx(kl.max(), rel=1e-4)
    for found_quantile, share in ((versus.kl_p50, 0.5), (versus.kl_p99, 0.99)):
        exact = np.quantile(kl, share, method="inverted_cdf")
        assert found_quantile == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-3)
    assert versus.top1_agreement == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean(), abs=1e-9)


@pytest.mark.parametrize("family", VARIED)
def test_controls_edit_as_many_and_are_listed_apart(family: str, measured: Any) -> None:
    results = measured(family).results
    assert list(results.variants) == ["original", *VARIANTS]
    assert list(results.controls) == ["zeroed-control-0", "zeroed-control-1"]
    zeroed = results.variants["zeroed"]
    deltas = [control.versus_original.delta_nll for control in results.controls.values()]
    for control in results.controls.values():
        assert control.edit.entries == zeroed.edit.entries
        assert control.edit.by_module_class == zeroed.edit.by_module_class
    assert len(set(deltas)) == 2
    versus = zeroed.versus_control
    assert versus.delta_nll == pytest.approx(np.mean(deltas), rel=1e-9)
    excess = zeroed.versus_original.delta_nll - np.mean(deltas)
    assert versus.excess_delta_nll == pytest.approx(excess, rel=1e-9)
    assert versus.p_value is None  # of two controls
    assert results.variants["clipped"].versus_control is None


@pytest.mark.parametrize("family", VARIED)
def test_weights_are_bitwise_what_they_were(family: str, measured: Any) -> None:
    before = dict(tiny_model(family).named_parameters())
    after = dict(measured(family).experiment.model.named_parameters())
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    modules = measured(family).experiment.model.modules()
    assert not any(getattr(module, kind) for module in modules for kind in hooks)


@pytest.mark.parametrize("family", VARIED)
def test_the_original_scored_again_is_the_same(family: str, measured: Any) -> None:
    ran = measured(family)
    floor = ran.results.noise_floor
    assert (floor.delta_nll, floor.kl_mean) == (0.0, 0.0)
    assert len(ran.totals.scored[NOISE_FLOOR].tally.rows)


@pytest.mark.parametrize("family", VARIED)
def test_the_floor_of_the_precision_is_that_of_a_moved_copy(family: str, measured: Any) -> None:
    ran = measured(family)
    rounding = ran.results.noise_floor.rounding
    model, moved = tiny_model(family), tiny_model(family)
    patch = nudged(model)
    for tensor in patch.tensors:
        moved.get_parameter(tensor.name).data.view(-1)[tensor.index] = tensor.new
    one, other = Naive.of(model), Naive.of(moved)
    assert rounding.entries == patch.entries > 0
    # Single precision rounds to about 1e-7 of a nat, and the reference is of it.
    assert rounding.delta_nll == pytest.approx(other.nll.mean() - one.nll.mean(), abs=5e-7)
    assert 0 < rounding.kl_mean < 1e-9
    assert rounding.top1_agreement > 0.99
    windows = {row.window for row in ran.totals.scored[ROUNDING].tally.rows}
    assert windows == {row.window for row in ran.totals.scored[NOISE_FLOOR].tally.rows}


@dataclass(frozen=True)
class Next(Edit):
    """Moves outliers to the next number of their type: an edit that means nothing."""

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        values = torch.take(weight, index)
        return values.nextafter(torch.full_like(values, math.inf))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_effect_near_rounding_says_so(
    dtype: str, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    matrices = Scope(matrices_only=True)
    variants = {
        "next": VariantConfig(TopFraction(0.002), Next(), matrices),
        "zeroed": VARIANTS["zeroed"],
        "none": VariantConfig(AbsoluteThreshold(99.0)),
    }
    options = {"variants": variants, "dtype": dtype}
    ran = run(folders("llama"), corpus, tmp_path, model=options, max_length=LENGTH)
    rounding = ran.results.noise_floor.rounding
    assert (rounding.kl_mean > 1e-6) is (dtype == "bfloat16")
    kl = ran.results.variants["next"].versus_original.kl_mean
    (warning,) = (line for line in ran.results.warnings if "rounding" in line)
    assert warning == (
        f"next: its divergence from the original (KL {kl:.2g}, rounding {rounding.kl_mean:.2g}) is "
        f"near what rounding in {dtype} makes"
        f"{'; model.dtype: float32 tells more' if dtype == 'bfloat16' else ''}."
    )


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_every_window_is_scored_exactly_once(family: str, measured: Any) -> None:
    ran = measured(family)
    windows = list(range(ran.results.data.windows))
    assert len(windows) > 8  # more than one batch
    for name in ("original", *VARIANTS, *ran.results.controls):
        assert sorted(row.window for row in ran.totals.scored[name].tally.rows) == windows, name


def test_numbers_do_not_depend_on_the_variants_beside(
    measured: Any, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    options = {"variants": {"small": VARIANTS["small"]}}
    alone = run(folders("qwen2"), corpus, tmp_path, model=options, max_length=LENGTH).results
    beside = measured("qwen2").results
    for name in ("original", "small"):
        assert alone.variants[name] == beside.variants[name]
    assert (alone.data, alone.model) == (beside.data, beside.model)


@pytest.mark.parametrize("family", ["gemma3", "opt", "gpt2"])
def test_numbers_do_not_depend_on_the_batch_size(
    family: str, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    options = {"variants": VARIANTS}
    one, eight = (
        run(
            folders(family), corpus, tmp_path, model=options, max_length=LENGTH, batch_size=size
        ).results
        for size in (1, 8)
    )
    assert one.data == eight.data
    for name, found in one.variants.items():
        expected = eight.variants[name]
        assert vars(found.likelihood) == pytest.approx(vars(expected.likelihood), rel=2e-6)
        if name != "original":
            left, right = found.versus_original, expected.versus_original
            assert left.delta_nll == pytest.approx(right.delta_nll, abs=2e-6)
            assert left.kl_mean == pytest.approx(right.kl_mean, rel=1e-4)


# -- what goes wrong ---------------------------------------------------------------------------


def test_a_criterion_that_selects_nothing_says_so(
    folders: Any, corpus: Path, tmp_path: Path
) -> None:
    nothing = VariantConfig(AbsoluteThreshold(99.0), controls=2)
    ran = run(folders("llama"), corpus, tmp_path, model={"variants": {"none": nothing}})
    found = ran.results.variants["none"]
    assert found.edit.is_original
    assert found.edit.patch is None
    assert found.versus_original.delta_nll == found.versus_original.kl_max == 0.0
    assert found.versus_original.top1_agreement == 1.0
    assert found.likelihood == ran.results.variants["original"].likelihood
    assert found.versus_control is None
    assert not (ran.folder / "patches").exists()
    weights = dict(tiny_model("llama").named_parameters())
    name = max(weights, key=lambda name: weights[name].abs().max())
    largest = weights[name].abs().max()
    place = (weights[name].abs() == largest).nonzero()[0].tolist()
    total = sum(weight.numel() for weight in weights.values())
    nearest = f"the largest of its {total:,} weights is |w| = {largest:.4g}, at {name}{place}"
    warning = (
        "none: AbsoluteThreshold(threshold=99.0) selects nothing, so this variant is the original; "
        f"{nearest}."
    )
    assert found.edit.nearest == nearest
    assert ran.results.warnings == (warning,)
    assert warning in (ran.folder / "report.md").read_text()
    again(ran)
    assert ran.results.warnings == (warning,)


def test_controls_that_edit_much_of_the_same_say_so(
    folders: Any, corpus: Path, tmp_path: Path
) -> None:
    norms = Scope(include=["model.norm.weight"])
    # Of much else it edits little, and yet all but one entry of a norm.
    hidden = VariantConfig(AbsoluteThreshold(0.6), controls=1)
    variants = {
        "most": VariantConfig(TopFraction(0.75), scope=norms, controls=1),
        "alone": VariantConfig(TopFraction(0.75), scope=norms),
        "some": VariantConfig(TopFraction(0.125), scope=norms, controls=1),
        "few": VariantConfig(TopFraction(0.04), scope=norms, controls=1),
        "hidden": hidden,
    }
    ran = run(folders("llama"), corpus, tmp_path, model={"variants": variants})
    excess = {
        name: variant.versus_control.excess_delta_nll
        for name, variant in ran.results.variants.items()
        if variant.versus_control is not None
    }
    ends = {
        name: "the excess over controls understates its effect"
        if value > 0
        else "the two cannot differ by much there"
        for name, value in excess.items()
    }
    norm = [f"100% of its 32 in model.layers.0.{kind}" for kind in (
        "input_layernorm.weight", "post_attention_layernorm.weight"
    )]  # fmt: skip
    norm.append("100% of its 32 in model.layers.1.input_layernorm.weight")
    places = {
        "most": "75% of its 24 in model.norm.weight",
        "some": "12% of its 4 in model.norm.weight",
        "hidden": ", ".join([*norm, "much in 2 other tensors"]),
    }
    said = [warning for warning in ran.results.warnings if "many of the same" in warning]
    assert said == [
        f"{name}: a control edits many of the same entries ({where}); {ends[name]}."
        for name, where in places.items()
    ]


@dataclass(frozen=True)
class Become(Edit):
    """Sets outliers to a value that no weight should have."""

    value: float

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        return torch.full((len(index),), self.value, dtype=weight.dtype)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_null_and_its_site_named(
    value: float, measured: Any, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    norm = Scope(["model.layers.1.input_layernorm.weight"])
    broken = VariantConfig(TopFraction(0.04), Become(value), norm, controls=1)
    options = {"variants": {"broken": broken, **VARIANTS}}
    ran = run(folders("llama"), corpus, tmp_path, model=options, max_length=LENGTH)
    found = ran.results.variants["broken"]
    assert found.edit.entries == 1
    assert set(vars(found.likelihood).values()) == {None}
    assert set(vars(found.versus_original).values()) == {None}
    assert found.versus_control.excess_delta_nll is None
    site = "model.layers.1.input_layernorm (its weight is not finite)"
    warning = f"broken: NaN or infinity, first at {site}, in batch 0."
    untouched, first, *others = ran.results.warnings
    assert untouched.startswith("broken: its controls leave 1 of their entries as they are")
    assert first == warning
    assert all(said.startswith(("No p (", "One control tells")) for said in others)
    expected = measured("llama").results
    for name in ("original", *VARIANTS):
        assert ran.results.variants[name] == expected.variants[name], name
    control = ran.results.controls["broken-control-0"]
    assert control.versus_original.delta_nll is not None
    written = json.loads((ran.folder / "results.json").read_text())["variants"]["broken"]
    assert written["versus_original"]["kl_mean"] is None
    assert (ran.folder / "status").read_text() == "complete\n"


PROMPTS = ["The quick", "Füße", "x", "One window is not enough"]


@pytest.mark.parametrize("sampled", [False, True], ids=["greedy", "sampled"])
def test_what_is_not_finite_writes_nothing_and_the_run_goes_on(
    sampled: bool, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    norm = Scope(["model.layers.1.input_layernorm.weight"])
    broken = VariantConfig(TopFraction(0.04), Become(math.nan), norm, controls=2)
    variants = {"broken": broken, "zeroed": VARIANTS["zeroed"]}
    generation = Generation(max_new_tokens=6, do_sample=sampled)
    options = {"variants": variants, "generation": generation}
    data = {"max_length": LENGTH, "prompts": PROMPTS, "prompt_batch_size": 3}
    ran = run(folders("llama"), corpus, tmp_path, model=options, **data)
    site = "model.layers.1.input_layernorm (its weight is not finite)"
    (warning,) = (line for line in ran.results.warnings if line.startswith("broken: NaN"))
    assert warning == f"broken: NaN or infinity, first at {site}, in batch 0."
    found = ran.results.variants["broken"].generation
    assert (found.tokens, found.prompts, found.broken) == (0, 4, 4)
    figures = ("seq_rep_4", "distinct_2", "diversity", "loop_rate")
    assert [getattr(found, name) for name in figures] == [None] * 4
    assert found.identical_to_original is found.first_divergence is None
    for name in ("original", "zeroed"):
        other = ran.results.variants[name].generation
        assert (other.broken, other.prompts) == (0, 4)
        assert other.tokens > 0
    assert ran.results.controls["zeroed-control-0"].generation is not None
    assert ran.results.controls["zeroed-control-1"].generation is None
    written = json.loads((ran.folder / "results.json").read_text())["variants"]["broken"]
    assert written["generation"]["seq_rep_4"] is None
    assert written["generation"]["tokens"] == 0
    rows = [
        json.loads(line) for line in (ran.folder / "generations.jsonl").read_text().splitlines()
    ]
    of_broken = [row for row in rows if row["variant"] == "broken"]
    assert [(row["text"], row["tokens"], row["broken"]) for row in of_broken] == [
        ("", [], True)
    ] * 4
    assert (ran.folder / "status").read_text() == "complete\n"
    # What else stands in the run is what it is without the broken one.
    options = {"variants": {"zeroed": VARIANTS["zeroed"]}, "generation": generation}
    whole = run(folders("llama"), corpus, tmp_path, model=options, **data)
    for name in ("original", "zeroed"):
        assert whole.results.variants[name] == ran.results.variants[name]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_texts_are_those_of_an_edited_copy(
    family: str, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    options = {"variants": VARIANTS, "generation": Generation(max_new_tokens=6)}
    data = {"max_length": LENGTH, "prompts": PROMPTS, "prompt_batch_size": 3}
    ran = run(folders(family), corpus, tmp_path, command="predict", model=options, **data)
    assert ran.results.data is ran.results.noise_floor is None
    for name in ("original", *VARIANTS):
        assert ran.results.variants[name].likelihood is None
        model = edited(tiny_model(family), name)
        for number, prompt in enumerate(PROMPTS):
            ids = tiny_tokenizer()(prompt)["input_ids"]
            length = len(ids)
            for _ in range(6):
                with torch.no_grad():
                    token = int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
                if token == 257:
                    break
                ids.append(token)
            assert ran.totals.continued[name].texts[number].tokens == tuple(ids[length:]), (
                name,
                prompt,
            )
    rows = [
        json.loads(line) for line in (ran.folder / "generations.jsonl").read_text().splitlines()
    ]
    assert [row["prompt"] for row in rows] == [p for p in PROMPTS for _ in range(len(VARIANTS) + 2)]
    original = tiny_model(family)
    for name, record in (ran.results.variants | ran.results.controls).items():
        texts = [row for row in rows if row["variant"] == name and row["tokens"]]
        total = 0.0
        for row in texts:
            prompt = tiny_tokenizer()(row["prompt"])["input_ids"]
            likelihoods = log_probs(original, prompt, row["tokens"])
            nll = -float(likelihoods[range(len(row["tokens"])), row["tokens"]].sum())
            assert row["nll_under_original"] == pytest.approx(nll / len(row["tokens"]), rel=1e-5)
            total += nll
        if record.generation is not None:
            tokens = sum(len(row["tokens"]) for row in texts)
            assert record.generation.nll_under_original == pytest.approx(total / tokens, rel=1e-5)
            assert record.generation.texts == len(texts)
    # The figures of the texts are those that validate gives, and both files are read back.
    assert (ran.folder / "results.json").read_text() == to_json(ran.results)
    validated = run(folders(family), corpus, tmp_path, model=options, **data).results
    for name, record in (validated.variants | validated.controls).items():
        ours = (ran.results.variants | ran.results.controls)[name]
        assert (ours.generation, ours.edit) == (record.generation, record.edit)


def test_a_models_own_settings_of_generation_do_not_count(
    folders: Any, corpus: Path, tmp_path: Path
) -> None:
    options = {"generation": Generation(max_new_tokens=6)}
    data = {"max_length": LENGTH, "prompts": PROMPTS, "command": "predict"}
    plain = run(folders("llama"), corpus, tmp_path, model=options, **data)
    folder = shutil.copytree(folders("llama"), tmp_path / "asks-for-more")
    own = {"num_beams": 3, "num_return_sequences": 3, "do_sample": True, "temperature": 9.0}
    own |= {"repetition_penalty": 3.0, "no_repeat_ngram_size": 1, "min_new_tokens": 6}
    own |= {"suppress_tokens": [101], "stop_strings": ["e"], "remove_invalid_values": True}
    (folder / "generation_config.json").write_text(json.dumps(own))
    ran = run(folder, corpus, tmp_path, model=options, **data)
    texts = [{n: o.texts for n, o in each.totals.continued.items()} for each in (ran, plain)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("limit", [{"limit_val_batches": 1}, {"fast_dev_run": True}], ids=str)
def test_a_part_of_the_split_is_marked_as_one(
    limit: dict[str, Any], folders: Any, corpus: Path, tmp_path: Path
) -> None:
    options = {"variants": {"small": VARIANTS["small"]}}
    ran = run(
        folders("llama"),
        corpus,
        tmp_path,
        model=options,
        trainer=limit,
        max_length=LENGTH,
        batch_size=3,
    )
    data, likelihood = ran.results.data, ran.results.variants["original"].likelihood
    assert ran.results.run.partial
    assert (data.windows, data.words, data.bytes) == (3, None, None)
    # The longest windows come first: those of the first document.
    assert (data.documents, data.tokens) == (1, len(DOCUMENTS[0]))
    assert likelihood.perplexity is not None
    assert likelihood.word_perplexity is likelihood.bits_per_byte is None


# -- the run folder ----------------------------------------------------------------------------


def test_the_run_folder_of_a_library_user(measured: Any, folders: Any) -> None:
    ran = measured("llama")
    assert sorted(path.name for path in ran.folder.iterdir()) == [
        "documents.parquet",
        "journal",
        "patches",
        "report.md",
        "results.json",
        "status",
        "variants.csv",
    ]
    assert (ran.folder.parent.name, ran.folder.name) == ("llama", "version_0")
    assert (ran.folder / "status").read_text() == "complete\n"
    assert (ran.folder / "results.json").read_text() == to_json(ran.results)
    record = ran.results.run
    assert (record.name, record.version, record.command, record.seed, record.partial) == (
        "llama",
        0,
        "validate",
        None,
        False,
    )
    model = ran.results.model
    assert (model.class_name, model.dtype) == ("LlamaForCausalLM", "float32")
    assert model.pretrained == str(folders("llama"))
    assert model.parameters == sum(weight.numel() for weight in tiny_model("llama").parameters())
    assert ran.results.data.documents == len(list(filter(None, DOCUMENTS)))


def table_of(folder: Path) -> list[dict[str, Any]]:
    return parquet.read_table(folder / "documents.parquet").to_pylist()


def check_sums(ran: Ran, units: list[str]) -> None:
    """The rows of ``documents.parquet`` add up to what stands in ``results.json``."""
    results = ran.results
    everything = results.variants | results.controls
    table = table_of(ran.folder)
    assert [row["variant"] for row in table] == [name for name in everything for _ in units]
    for name, variant in everything.items():
        rows = [row for row in table if row["variant"] == name]
        assert [row["document"] for row in rows] == units
        tokens = sum(row["tokens"] for row in rows)
        assert tokens == results.data.tokens
        nll = math.fsum(row["nll_sum"] for row in rows) / tokens
        assert nll == pytest.approx(variant.likelihood.nll, rel=1e-12)
        if variant.versus_original is not None:
            kl = math.fsum(row["kl_sum"] for row in rows) / tokens
            assert kl == pytest.approx(variant.versus_original.kl_mean, rel=1e-12)


def test_documents_add_up(measured: Any) -> None:
    ran = measured("llama")
    check_sums(ran, [str(i) for i, text in enumerate(DOCUMENTS) if text])
    rows = [row for row in table_of(ran.folder) if row["variant"] == "original"]
    assert [row["bytes"] for row in rows] == [len(t.encode()) for t in DOCUMENTS if t]
    assert [row["words"] for row in rows] == [len(re.split(r"\s+", t)) for t in DOCUMENTS if t]
    assert sum(row["bytes"] for row in rows) == ran.results.data.bytes
    assert sum(row["words"] for row in rows) == ran.results.data.words


def test_documents_of_one_text_are_one_sample_and_count_each(measured: Any) -> None:
    ran = measured("llama")
    corpus = ran.data.corpus("validate")
    count = len(corpus.units)

    def results(same_as: list[int]) -> Results:
        units = [replace(u, same_as=n) for u, n in zip(corpus.units, same_as, strict=True)]
        made = replace(corpus, units=units)
        design = replace(ran.experiment.design, corpus=made)
        return summarise(ran.totals, design, ran.results.run)

    one = results([0] * count)
    zeroed, before = (each.variants["zeroed"] for each in (one, ran.results))
    assert zeroed.likelihood == before.likelihood
    assert zeroed.versus_original.delta_nll == pytest.approx(
        before.versus_original.delta_nll, rel=1e-12
    )
    assert zeroed.versus_original.delta_nll_ci95 is zeroed.versus_control.excess_ci95 is None
    assert before.versus_original.delta_nll_ci95 is not None
    assert f"{count} documents hold one text" in one.warnings[0]


@pytest.mark.parametrize("name", ["hf-strided", "gptq"])
def test_blocks_are_the_units_of_a_joined_corpus(
    name: str, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    keys = protocol(name) | {"max_length": LENGTH}
    options = {"variants": VARIANTS}
    ran = run(folders("llama"), corpus, tmp_path, model=options, **keys)
    windows = ran.results.data.windows
    assert 8 < windows <= 27
    size = 3  # the smallest whole number whose cube is no less than the windows
    blocks = [
        f"windows {first}-{min(first + size, windows) - 1}" for first in range(0, windows, size)
    ]
    check_sums(ran, blocks)
    assert ran.results.data.documents == len(DOCUMENTS)
    assert ran.results.variants["zeroed"].versus_original.delta_nll_ci95 is not None
    assert {row["words"] for row in table_of(ran.folder)} == {None}


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_saved_patches_give_the_same_again(
    family: str, measured: Any, folders: Any, corpus: Path
) -> None:
    ran = measured(family)
    saved = {name: str(ran.folder / f"patches/{name}.safetensors") for name in VARIANTS}
    assert sorted(map(str, (ran.folder / "patches").iterdir())) == sorted(saved.values())
    for name, variant in ran.results.variants.items():
        if variant.edit is not None:
            assert variant.edit.patch == f"patches/{name}.safetensors"
            with safe_open(saved[name], framework="pt") as file:
                sizes = [len(file.get_tensor(key)) for key in file.keys() if ".index" in key]  # noqa: SIM118
            assert sum(sizes) == variant.edit.entries
    variants = {name: VariantConfig(patch=path) for name, path in saved.items()}
    logs = ran.folder.parents[1]
    second = run(folders(family), corpus, logs, model={"variants": variants}, max_length=LENGTH)
    assert second.folder == ran.folder.parent / "version_1"
    assert second.results.run.version == 1
    for name, expected in ran.results.variants.items():
        assert without_controls(second.results.variants[name]) == without_controls(expected)


def without_controls(variant: VariantRecord) -> VariantRecord:
    return replace(variant, versus_control=None)


def test_a_refused_run_leaves_no_folder(
    measured: Any, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    path = measured("llama").folder / "patches/zeroed.safetensors"
    other = {"variants": {"theirs": VariantConfig(patch=str(path))}}
    with pytest.raises(ConfigError, match="another model"):
        run(folders("gpt2"), corpus, tmp_path / "logs", model=other)
    assert not (tmp_path / "logs").exists()
    scoped = VariantConfig(AbsoluteThreshold(), scope=Scope(["nothing.*"]))
    with pytest.raises(ConfigError, match="matches no parameter"):
        run(folders("llama"), corpus, tmp_path / "logs", model={"variants": {"a": scoped}})
    assert not (tmp_path / "logs").exists()


class Fault(Callback):
    """Something that breaks in the middle of a run."""

    def on_validation_batch_end(self, *_: Any) -> None:
        raise RuntimeError("the machine is on fire")


def test_an_interrupted_run_keeps_its_folder(folders: Any, corpus: Path, tmp_path: Path) -> None:
    recorder = RunRecorder("mine", str(tmp_path))
    with pytest.raises(RuntimeError, match="on fire"):
        run(folders("llama"), corpus, tmp_path, callbacks=(Fault(),), recorder=recorder)
    assert (tmp_path / "mine/version_0/status").read_text() == "interrupted\n"
    results = json.loads((tmp_path / "mine/version_0/results.json").read_text())
    assert results["run"]["partial"] is True


def test_test_measures_as_validate_does(
    measured: Any, folders: Any, corpus: Path, tmp_path: Path
) -> None:
    options = {"variants": VARIANTS}
    ran = run(folders("llama"), corpus, tmp_path, command="test", model=options, max_length=LENGTH)
    assert ran.results.run.command == "test"
    assert ran.results.variants == measured("llama").results.variants


# -- training ----------------------------------------------------------------------------------

ARCHITECTURE = {
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}


def train(tokenizer: Path, folder: Path) -> Ran:
    """Trains from random weights for a few steps, too fast at the end to stay the best."""
    (folder / "text.txt").write_text("the same few words again and again, " * 120)
    torch.manual_seed(0)
    options = {
        "tokenizer": str(tokenizer),
        "architecture": ARCHITECTURE,
        "training": Training(learning_rate=0.02, warmup_steps=2),
    }
    trainer = {"logger": RunLogger(), "max_steps": 24, "val_check_interval": 8}
    trainer |= {"log_every_n_steps": 1}
    recorder = RunRecorder("mine", str(folder))
    return run(
        "demo",
        folder / "text.txt",
        folder,
        command="fit",
        model=options,
        trainer=trainer,
        callbacks=(HuggingFaceCheckpoint(recorder),),
        recorder=recorder,
        batch_size=4,
    )


@pytest.fixture(scope="module")
def fitted(folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A model that was trained; tests leave it and its folder as they are."""
    return train(folders("llama"), tmp_path_factory.mktemp("fit"))


def scalars(folder: Path, tag: str) -> list[float]:
    events = EventAccumulator(str(folder / "original"))
    events.Reload()
    return [event.value for event in events.Scalars(tag)]


def test_fit_lowers_the_loss(fitted: Ran) -> None:
    losses = scalars(fitted.folder, "likelihood/train_nll")
    assert len(losses) == 24
    assert losses[0] == pytest.approx(math.log(260), rel=0.05)
    assert losses[-1] < losses[0] - 1
    assert len(scalars(fitted.folder, "likelihood/nll")) == 3
    assert (fitted.folder / "status").read_text() == "complete\n"


def test_fit_leaves_the_last_and_the_best(fitted: Ran, tmp_path: Path) -> None:
    last = Pretrained(str(fitted.folder / "checkpoints/last")).load()
    for name, weight in last.named_parameters():
        assert torch.equal(weight, fitted.experiment.model.get_parameter(name).cpu()), name
    best = fitted.folder / "checkpoints/best"
    nll = run(best, fitted.data.text.dataset, tmp_path).results.variants["original"].likelihood.nll
    assert nll == pytest.approx(min(scalars(fitted.folder, "likelihood/nll")), rel=1e-5)
    assert Pretrained(str(best)).tokenizer("ab")["input_ids"] == ids_of("ab")


def test_what_was_trained_can_be_measured_at_once(folders: Any, tmp_path: Path) -> None:
    fitted = train(folders("llama"), tmp_path)
    experiment: OutlierExperiment = fitted.experiment
    before = {name: value.clone() for name, value in experiment.model.state_dict().items()}
    last = scalars(fitted.folder, "likelihood/nll")[-1]
    again(fitted)
    nll = fitted.results.variants["original"].likelihood.nll
    assert nll == pytest.approx(last, rel=1e-5)
    assert all(torch.equal(value, before[k]) for k, value in experiment.model.state_dict().items())
