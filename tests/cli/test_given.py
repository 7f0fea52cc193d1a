"""What is wrong by its name or its form is refused before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.given import check_given, spelt, values_given
from harness.errors import ConfigError

V = "--model.variants.x"
Z = "--model.variants.zeroed"


@pytest.mark.parametrize(
    ("argv", "key", "value", "gist"),
    [
        (["--model", "gpt2"], "model", "gpt2", "did you mean --model.pretrained gpt2?"),
        (["--model=./m"], "model", "./m", "did you mean --model.pretrained ./m?"),
        (["--data", "my.txt"], "data", "my.txt", "did you mean --data.dataset my.txt?"),
        (["--data", "my.jsonl"], "data", "my.jsonl", "did you mean --data.dataset my.jsonl?"),
        (["--run", "mine"], "run", "mine", "did you mean --run.name mine?"),
        (["--activations", "false"], "activations", "false", "mean --activations.enabled false?"),
        (["--trainer", "3"], "trainer", "3", "a mapping of accelerator, strategy,"),
        (["--model", "null"], "model", "null", "a mapping"),
        ([V, "3"], "model.variants.x", "3", "a mapping of criterion, edit, scope, controls, p"),
        ([f"{V}.scope=3"], "model.variants.x.scope", "3", "a mapping of include, exclude, ma"),
        (["--model.training", "fast"], "model.training", "fast", "a mapping of learning_rate"),
        (["-c", "null.yaml"], "model", None, "a mapping"),
        (["-c", "three.yaml"], "activations.sites", [1, 2], "a mapping of types, include"),
        (["--model", "nowhere.yaml"], "model", "nowhere.yaml", "no such file"),
        (["-c", "nowhere.yaml"], "config", "nowhere.yaml", "no such file"),
        (["--model.pretraind", "x"], "model.pretraind", "x", "did you mean model.pretrained?"),
        (["--model", "{pretraind: x}"], "model.pretraind", "x", "did you mean model.pretrained?"),
        (["-c", "typo.yaml"], "data.batchsize", 3, "did you mean data.batch_size?"),
        (["-c", "outer.yaml"], "data.bos_", "x", "did you mean data.bos?"),
        (["-c", "five.yaml"], "model.variants.5.critrion", "x", "did you mean model.variants.5.c"),
        ([f"{V}.criterion=AbsoluteTreshold"], "model.variants.x.criterion", None, "mean Absolute"),
        ([f"{V}.criterion.class_path", "Foo"], "model.variants.x.criterion", "Foo", "accepted: Ab"),
        ([f"{V}.edit", "Zer0"], "model.variants.x.edit", "Zer0", "did you mean Zero?"),
        (
            [f"{V}.criterion", "zero"],
            "model.variants.x.criterion",
            "zero",
            "accepted: AbsoluteThreshold",
        ),
        (
            [f"{V}.edit", "TopFraction"],
            "model.variants.x.edit",
            None,
            "accepted: Zero, Epsilon, Clip",
        ),
        ([V, "{edit: nothing}"], "model.variants.x.edit", "nothing", "Zero, Epsilon, Clip"),
        (["-c", "class.yaml"], "model.variants.a.criterion", "Foo", "SigmaThreshold, TopFraction"),
        ([f"{V}.criterion=3"], "model.variants.x.criterion", "3", "accepted: AbsoluteThreshold, "),
        ([f"{V}.criterion="], "model.variants.x.criterion", "", "accepted: AbsoluteThreshold, "),
        ([f"{V}.edit=[Zero]"], "model.variants.x.edit", "[Zero]", "did you mean Zero?"),
        (["-c", "dots.yaml"], "model.variants.a.b.criterion.sigma", 3, "SigmaThreshold takes sig"),
        ([f"{Z}.criterion.treshold=3"], "model.variants.zeroed.criterion.treshold", "3", "takes"),
        ([f"{V}.edit.values=1"], "model.variants.x.edit.values", "1", "Epsilon takes value"),
        ([f"{Z}.scope", "null"], "model.variants.zeroed.scope", "null", "not null"),
        ([f"{Z}.controls", "null"], "model.variants.zeroed.controls", "null", "NonNegativeInt"),
        (["--data.batch_size=null"], "data.batch_size", "null", "must be int, not null"),
        (["--model.generation.arguments=null"], "model.generation.arguments", "null", "dict[str,"),
        (["-c", "typed.yaml"], "model.pretrained", None, "must be str, not null"),
    ],
)
def test_key_value_and_what_is_meant_are_told(
    argv: list[str],
    key: str,
    value: object,
    gist: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    files = {
        "typo.yaml": "data: {batchsize: 3}",
        "outer.yaml": "data: deep/inner.yaml",
        "deep/inner.yaml": "bos_: x",
        "null.yaml": "model:",
        "three.yaml": "activations: {sites: [1, 2]}",
        "five.yaml": "model: {variants: {5: {critrion: x}}}",
        "dots.yaml": "model: {variants: {a.b: {criterion: {class_path: SigmaThreshold, "
        "init_args: {sigma: 3}}}}}",
        "typed.yaml": "model: {pretrained: null}",
        "class.yaml": "model: {variants: {a: {criterion: {class_path: Foo}}}}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as error:
        check_given(list(values_given(argv)))
    assert error.value.key == key
    assert value is None or error.value.value == value
    assert gist in error.value.reason
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--help"],
        ["--print_config=skip_default"],
        ["--model.variants.help"],
        ["--model.generation.help", "--trainer.logger.help", "RunLogger"],
        ["--model", "{pretrained: x}"],
        ["--model.variants", "null"],
        [V, "null"],
        [f"{V}.criterion", "sigmathreshold", f"{V}.edit=ZERO"],
        [f"{V}.criterion", "mine.Own", f"{V}.criterion.anything", "3"],
        [f"{V}.criterion=null", f"{V}.patch=x"],
        [f"{V}.criterion.help", "SigmaThreshold"],
        [f"{Z}.criterion={{threshold: 3}}", f"{Z}.criterion.init_args.threshold", "1e-3"],
        [f"{V}.criterion", "harness.outliers.TopFraction", f"{V}.criterion.fraction=1e-3"],
        ["--data.dataset=[a, 3]", "--model.device_map={a: 1}", "--trainer.callbacks=[mine.Own]"],
        ["--model.generation", "null", "--data.prompts", '["--a", "b"]'],
        ["--trainer.precision=null", "--trainer.logger=null", "--ckpt_path=null"],
        ["-c"],
        ["-c", "{model: {pretrained: x}}"],
        ["--trainer.callbacks+=LearningRateMonitor"],
        ["--model.pretrained", "-c"],
    ],
)
def test_what_is_right_passes(argv: list[str]) -> None:
    check_given(list(values_given(argv)))


def test_the_names_of_classes_are_spelt_as_they_are_written() -> None:
    argv = [
        "validate",
        f"{V}.edit",
        "zero",
        f"{V}.criterion=sigma_threshold",
        "--data.name",
        "zero",
    ]
    argv += [f"{V}.criterion.class_path", "TOPFRACTION", f"{V}.edit"]
    assert spelt(argv) == [
        *("validate", f"{V}.edit", "Zero", f"{V}.criterion=SigmaThreshold", "--data.name", "zero"),
        *(f"{V}.criterion.class_path", "TopFraction", f"{V}.edit"),
    ]


def test_values_are_given_in_the_order_in_which_they_count(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("model: {confidence: 0.5, dtype: auto}\n")
    argv = ["-c", str(file), "--model.confidence", "0.9", f"--config={file}", "--x.init_args.y=1"]
    assert list(values_given(argv)) == [
        *(("model.confidence", 0.5), ("model.dtype", "auto"), ("model.confidence", "0.9")),
        *(("model.confidence", 0.5), ("model.dtype", "auto"), ("x.y", "1")),
    ]
