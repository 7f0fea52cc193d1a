"""Runs with statistics: which rows there are, what stands in them, and that nothing else moves."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from pyarrow import parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.errors import ConfigError
from harness.evaluation.training import Training
from harness.models import Pretrained
from harness.outliers import AbsoluteThreshold, Scope, TopFraction, unique_parameters
from harness.outliers.variants import VariantConfig
from harness.probes import Sites
from harness.probes.settings import ActivationStatistics
from harness.results.schema import ObserverRecord
from harness.tracking import RunLogger, RunRecorder
from tests.running import Ran, run
from tests.tiny import save_tiny, tiny_model

DOCUMENTS = [
    "The quick brown fox jumps over the lazy dog, as it has done since 1885.",
    "xyz",
    "Exactly 24 bytes of text",
    "One window is not enough for this document. " * 3,
]
BATCHES = 6  # 11 windows of 24 bytes at most, two at a time
VARIANTS = {
    "zeroed": VariantConfig(AbsoluteThreshold(0.5), scope=Scope(matrices_only=True), controls=2),
    "small": VariantConfig(TopFraction(0.01)),
}
OBSERVED = ["original", "zeroed", "zeroed-control-0", "small"]
# Low enough that a tiny model has some of each.
LOW = {"threshold": 0.5, "sigmas": 2.0, "massive_threshold": 0.5, "massive_ratio": 3.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    return path


class Batches(Callback):
    """Keeps every batch."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        if trainer.state.fn != "fit":
            self.kept.append(batch)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        self.kept.append(batch)


Measure = Callable[..., Ran]


@pytest.fixture(scope="module")
def measure(folder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Measure:
    """Runs with statistics, or without."""

    def measured(
        statistics: ActivationStatistics | None = None, *callbacks: Callback, **options: Any
    ) -> Ran:
        logs = options.pop("logs", None) or tmp_path_factory.mktemp("logs")
        model = {"variants": VARIANTS, "activations": statistics}
        arguments = {"model": model, "max_length": 24, "batch_size": 2} | options
        return run(folder, corpus, logs, callbacks=callbacks, **arguments)

    return measured


@pytest.fixture(scope="module")
def batches() -> Batches:
    return Batches()


@pytest.fixture(scope="module")
def measured(measure: Measure, batches: Batches) -> Ran:
    trainer = {"logger": RunLogger()}
    return measure(ActivationStatistics(**LOW), batches, trainer=trainer)


def rows_of(ran: Ran, name: str = "activations") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(ran.folder / f"{name}.parquet").to_pylist()
    return rows


# -- what there is -----------------------------------------------------------------------------


def test_rows_of_every_step_variant_site_and_part(measured: Ran) -> None:
    sites = Sites().find(tiny_model("llama"))
    rows = rows_of(measured)
    keys = ("step", "variant", "site", "kind", "layer", "phase", "part")
    found = [tuple(row[key] for key in keys) for row in rows]
    expected = {
        (step, variant, site.name, site.kind, site.layer, "prefill", part)
        for step in range(BATCHES)
        for variant in OBSERVED
        for site in sites
        for part in ("first", "rest")
    }
    assert set(found) == expected
    assert len(found) == len(expected)
    assert set(measured.results.controls) == {"zeroed-control-0", "zeroed-control-1"}


def edited(name: str) -> PreTrainedModel:
    model = tiny_model("llama")
    for weight in model.parameters():
        values = weight.data
        if name == "zeroed" and values.dim() >= 2:
            values[values.abs() > 0.5] = 0
        elif name == "small" and (count := values.numel() // 100):
            values.view(-1)[values.flatten().abs().argsort(descending=True)[:count]] = 0
    return model


@torch.no_grad()
def naive(model: PreTrainedModel, batch: Any) -> dict[tuple[str, str], dict[str, float]]:
    """Figures of one batch by site and part, in fp64 from outputs that are kept whole."""
    outputs: dict[str, Tensor] = {}
    handles = []
    for site in Sites().find(model):

        def keep(_: nn.Module, __: Any, output: Tensor, name: str = site.name) -> None:
            outputs[name] = output.double()

        handles.append(model.get_submodule(site.name).register_forward_hook(keep))
    model(batch.input_ids, attention_mask=batch.attention_mask)
    for handle in handles:
        handle.remove()
    lengths = batch.attention_mask.sum(1).tolist()
    found = {}
    for name, output in outputs.items():
        texts = [row[:length].numpy() for row, length in zip(output, lengths, strict=True)]
        massive = [
            (np.abs(text) > 0.5)
            & (np.abs(text) > 3 * np.sort(np.abs(text).flatten())[(text.size - 1) // 2])
            for text in texts
        ]
        for part, where in (("first", slice(0, 1)), ("rest", slice(1, None))):
            x = np.concatenate([text[where].flatten() for text in texts])
            if not x.size:
                continue
            block = name.count(".") == 2
            found[name, part] = figures(x, 0.5, 2.0) | {
                "massive": sum(int(flags[where].sum()) for flags in massive) if block else 0
            }
    return found


def figures(x: np.ndarray, threshold: float, sigmas: float) -> dict[str, float]:
    """What stands in a row, of some values."""
    offset = x - x.mean()
    return {
        "count": x.size,
        "max_abs": np.abs(x).max(),
        "mean": x.mean(),
        "rms": math.sqrt((x**2).mean()),
        "kurtosis": (offset**4).mean() / x.var() ** 2 if x.std() > 1e-3 * abs(x.mean()) else None,
        "outlier_share": (np.abs(x) > threshold).mean(),
        "sigma_share": (np.abs(offset) > sigmas * x.std()).mean(),
    }


def check_row(row: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if value is None:
            assert row[name] is None, (row, name)
            continue
        slack = 1e-5 * expected["rms"] if name == "mean" else 1e-12
        assert row[name] == pytest.approx(value, rel=1e-5, abs=slack), (row, name)


@pytest.mark.parametrize("variant", ["original", "zeroed", "small"])
def test_values_of_every_row(variant: str, measured: Ran, batches: Batches) -> None:
    model = edited(variant)
    rows = [row for row in rows_of(measured) if row["variant"] == variant]
    assert len(batches.kept) == BATCHES
    for batch in batches.kept:
        expected = naive(model, batch)
        own = {(r["site"], r["part"]): r for r in rows if r["step"] == batch.number}
        assert own.keys() == expected.keys()
        for key, row in own.items():
            check_row(row, expected[key])
    assert sum(row["massive"] for row in rows) > 100
    assert sum(row["outlier_share"] for row in rows) > 1
    assert sum(row["sigma_share"] for row in rows) > 1


def test_totals_are_the_sums_of_rows(measured: Ran, batches: Batches) -> None:
    rows = rows_of(measured)
    seen = {name: o.moments for name, o in measured.totals.scored.items() if o.moments}
    assert list(seen) == OBSERVED
    for variant, found in seen.items():
        for (site, phase, part), moments in found.items():
            own = [
                row
                for row in rows
                if (row["variant"], row["site"], row["phase"], row["part"])
                == (variant, site.name, phase, part)
            ]
            assert moments.count == sum(row["count"] for row in own)
            assert moments.massive == sum(row["massive"] for row in own)
            assert moments.max_abs == max(row["max_abs"] for row in own)
            squares = math.fsum(row["rms"] ** 2 * row["count"] for row in own)
            assert moments.squares == pytest.approx(squares, rel=1e-12)
    norm = {
        where.part: moments
        for where, moments in seen["original"].items()
        if where.site.name == "model.norm"
    }
    assert norm["first"].count == 32 * measured.results.data.windows
    fed = sum(int(batch.attention_mask.sum()) for batch in batches.kept)
    assert norm["first"].count + norm["rest"].count == 32 * fed


def scalars(folder: Path) -> dict[str, list[int]]:
    """Steps by tag, of the statistics alone."""
    if not folder.exists():
        return {}
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.split("/")[0] in TAGGED]
    return {tag: [event.step for event in events.Scalars(tag)] for tag in tags}


def test_the_same_tags_and_steps_for_each(measured: Ran) -> None:
    tags = {f"{name}/{group}" for name in TAGGED - ALONE for group in GROUPS}
    tags |= {f"{name}/residual_0{layer}" for name in ALONE for layer in (0, 1)}
    for variant in OBSERVED:
        assert scalars(measured.folder / variant) == {tag: list(range(BATCHES)) for tag in tags}
    assert scalars(measured.folder / "zeroed-control-1") == {}


ALONE = {"massive", "max_abs_first"}
TAGGED = {"max_abs", "rms", "kurtosis", "outlier_share", "sigma_share"} | ALONE
GROUPS = [
    "residual_00",
    "residual_01",
    *(f"self_attn.{x}_proj" for x in "qkvo"),
    *(f"mlp.{x}_proj" for x in ("gate", "up", "down")),
    "input_layernorm",
    "post_attention_layernorm",
    "model.norm",
]


# -- when it is there --------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "test"])
def test_every_few_steps(command: str, measure: Measure, measured: Ran) -> None:
    ran = measure(ActivationStatistics(every_n_steps=4, **LOW), command=command)
    assert ran.results.observed == ObserverRecord(*LOW.values(), every_n_steps=4)
    expected = [row for row in rows_of(measured) if row["step"] in (0, 4)]
    assert rows_of(ran) == expected


def test_some_sites(measure: Measure, measured: Ran) -> None:
    ran = measure(ActivationStatistics(sites=Sites(include=["*.down_proj"]), **LOW))
    expected = [row for row in rows_of(measured) if row["kind"] == "mlp.down_proj"]
    assert rows_of(ran) == expected


def test_results_are_the_same_with_and_without(measure: Measure, measured: Ran) -> None:
    without = measure()
    assert not (without.folder / "activations.parquet").exists()
    disabled = measure(ActivationStatistics(enabled=False))
    assert without.results.observed is disabled.results.observed is None
    for other in (without, disabled):
        for kind in ("variants", "controls"):
            found, expected = getattr(measured.results, kind), getattr(other.results, kind)
            assert found.keys() == expected.keys()
            for name, variant in found.items():
                for block in ("likelihood", "versus_original"):
                    one, two = getattr(variant, block), getattr(expected[name], block)
                    assert one == two, (name, block)
        assert asdict(measured.results.noise_floor) == asdict(other.results.noise_floor)
        documents = parquet.read_table(other.folder / "documents.parquet")
        assert documents.equals(parquet.read_table(measured.folder / "documents.parquet"))


def test_disabled_writes_nothing(measure: Measure) -> None:
    ran = measure(ActivationStatistics(enabled=False), trainer={"logger": RunLogger()})
    assert not list(ran.folder.glob("*ctivations*"))
    assert not list(ran.folder.glob("weights*"))
    assert not any(outcome.moments for outcome in ran.totals.scored.values())
    for variant in OBSERVED:
        assert scalars(ran.folder / variant) == {}


def test_no_hook_is_left(measured: Ran) -> None:
    assert all(not module._forward_hooks for module in measured.experiment.model.modules())


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "test", "fit"])
@pytest.mark.parametrize(
    ("sites", "key"),
    [
        (Sites(include=["*.mlp.down"]), "include"),
        (Sites(exclude=["transformer.*"]), "exclude"),
        (Sites(types=["Conv2D"]), "types"),
        (Sites(include=["lm_head"]), "include"),
    ],
)
def test_wrong_patterns_are_refused_before_weights_are_read(
    command: str,
    sites: Sites,
    key: str,
    measure: Measure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(_: Pretrained) -> None:
        raise AssertionError

    monkeypatch.setattr(Pretrained, "load", load)
    with pytest.raises(ConfigError) as caught:
        measure(
            ActivationStatistics(sites=sites),
            command=command,
            logs=tmp_path / "logs",
            trainer={"max_steps": 1, "log_every_n_steps": 1},
        )
    assert caught.value.key == f"activations.sites.{key}"
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("key", LOW)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_wrong_thresholds_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        ActivationStatistics(**{key: value})
    assert caught.value.key == f"activations.{key}"


class Fault(Callback):
    """Something that breaks in the middle of a run."""

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        if batch.number == 3:
            raise RuntimeError("the machine is on fire")


def test_an_interrupted_run_keeps_what_there_was(measure: Measure, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="on fire"):
        measure(ActivationStatistics(), Fault(), logs=tmp_path)
    (path,) = tmp_path.glob("*/version_0/activations.parquet")
    assert set(parquet.read_table(path)["step"].to_pylist()) == {0, 1, 2}


# -- training ----------------------------------------------------------------------------------

ARCHITECTURE = {
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
}


class Weights(Callback):
    """Keeps the model as it was before each step."""

    def __init__(self) -> None:
        self.kept: dict[int, PreTrainedModel] = {}

    def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
        self.kept.setdefault(trainer.global_step, copy.deepcopy(module.model))


def fit(
    folder: Path,
    logs: Path,
    statistics: ActivationStatistics | None = None,
    *callbacks: Callback,
    trainer: dict[str, Any] | None = None,
) -> Ran:
    (logs / "text.txt").write_text("the same few words again and again, " * 60)
    torch.manual_seed(0)
    options = {
        "tokenizer": str(folder),
        "architecture": ARCHITECTURE,
        "training": Training(learning_rate=0.02, warmup_steps=2),
        "activations": statistics,
    }
    return run(
        "demo",
        logs / "text.txt",
        logs,
        command="fit",
        model=options,
        trainer={"max_steps": 5, "val_check_interval": 4, "log_every_n_steps": 1} | (trainer or {}),
        callbacks=callbacks,
        recorder=RunRecorder("mine", str(logs)),
        batch_size=2,
    )


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("every", [1, 2])
def test_a_training(accumulated: int, every: int, folder: Path, tmp_path: Path) -> None:
    batches, weights = Batches(), Weights()
    trainer = {"accumulate_grad_batches": accumulated, "logger": RunLogger()}
    statistics = ActivationStatistics(every_n_steps=every, **LOW)
    ran = fit(folder, tmp_path, statistics, batches, weights, trainer=trainer)
    steps = list(range(0, 5, every))
    sites = Sites().find(ran.experiment.model)

    rows = rows_of(ran)
    assert {row["variant"] for row in rows} == {"original"}
    assert [row["step"] for row in rows] == [step for step in steps for _ in range(2 * len(sites))]
    assert len(batches.kept) == 5 * accumulated
    for step in steps:
        expected = naive(weights.kept[step], batches.kept[step * accumulated])
        own = {(row["site"], row["part"]): row for row in rows if row["step"] == step}
        assert own.keys() == expected.keys()
        for key, row in own.items():
            check_row(row, expected[key])

    written = rows_of(ran, "weights")
    names = list(unique_parameters(ran.experiment.model))
    assert "lm_head.weight" not in names
    assert [(row["step"], row["parameter"]) for row in written] == [
        (step, name) for step in steps for name in names
    ]
    assert set(weights.kept) == set(range(5))
    after = weights.kept | {5: ran.experiment.model}
    for row in written:
        weight = after[row["step"] + 1].get_parameter(row["parameter"])
        check_row(row, figures(weight.detach().double().flatten().numpy(), 0.5, 2.0))
        assert row["massive"] == 0
    kinds = {row["parameter"]: (row["kind"], row["layer"]) for row in written}
    assert kinds["model.layers.1.mlp.down_proj.weight"] == ("mlp.down_proj.weight", 1)
    assert kinds["model.embed_tokens.weight"] == ("model.embed_tokens.weight", None)

    events = EventAccumulator(str(ran.folder / "original"))
    events.Reload()
    for tag in ("weight_kurtosis/mlp.down_proj.weight", "max_abs/residual_01"):
        assert [event.step for event in events.Scalars(tag)] == steps
    outliers = events.Scalars("weight_outliers/mlp.up_proj.weight")[-1].value
    last = [
        weight.detach().double().numpy()
        for name, weight in after[steps[-1] + 1].named_parameters()
        if name.endswith("mlp.up_proj.weight")
    ]
    assert outliers == sum(int((np.abs(w - w.mean()) > 2 * w.std()).sum()) for w in last)


def test_a_training_is_the_same_with_and_without(folder: Path, tmp_path: Path) -> None:
    ends = []
    for name, statistics in (("with", ActivationStatistics()), ("without", None)):
        (tmp_path / name).mkdir()
        ran = fit(folder, tmp_path / name, statistics)
        ends.append(ran.experiment.model.state_dict())
    assert (tmp_path / "with/mine/version_0/weights.parquet").exists()
    assert not (tmp_path / "without/mine/version_0/weights.parquet").exists()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_training_without_statistics(folder: Path, tmp_path: Path) -> None:
    ran = fit(folder, tmp_path, ActivationStatistics(enabled=False))
    assert not list(ran.folder.glob("*.parquet"))
