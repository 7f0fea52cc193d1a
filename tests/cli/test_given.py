"""What is wrong by its name or its form is refused before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.given import check_given, spelt, values_given
from harness.errors import ConfigError

V = "--model.variants.x"
Z = "--model.variants.zeroed"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ["--model", "gpt2"],
            "model='gpt2': has keys below it; did you mean --model.pretrained gpt2?",
        ),
        (["--model=./m"], "did you mean --model.pretrained ./m?"),
        (["--data", "my.txt"], "did you mean --data.dataset my.txt?"),
        (["--data", "my.jsonl"], "did you mean --data.dataset my.jsonl?"),
        (["--run", "mine"], "did you mean --run.name mine?"),
        (["--activations", "false"], "did you mean --activations.enabled false?"),
        (["--trainer", "3"], "trainer='3': must be a mapping of accelerator, strategy,"),
        (["--model", "null"], "model='null': must be a mapping of pretrained,"),
        (["--model.variants", "3"], "model.variants='3': must be a mapping: "),
        (
            [V, "3"],
            "model.variants.x='3': must be a mapping of criterion, edit, scope, controls, p",
        ),
        ([f"{V}.scope=3"], "model.variants.x.scope='3': must be a mapping of include, exclude, ma"),
        (["--model.training", "fast"], "model.training='fast': must be a mapping of learning_rate"),
        (["--model", "nowhere.yaml"], "model='nowhere.yaml': no such file"),
        (["-c", "nowhere.yaml"], "config='nowhere.yaml': no such file"),
        (
            ["--model.pretraind", "x"],
            "model.pretraind='x': no such key; did you mean model.pretrai",
        ),
        (["--model", "{pretraind: x}"], "model.pretraind='x': no such key; did you mean model.pre"),
        (["-c", "typo.yaml"], "data.batchsize=3: no such key; did you mean data.batch_size?"),
        (["-c", "outer.yaml"], "data.bos_='x': no such key; did you mean data.bos?"),
        (["-c", "null.yaml"], "model=None: must be a mapping of pretrained,"),
        (["-c", "five.yaml"], "model.variants.5.critrion='x': no such key; did you mean"),
        ([f"{V}.criterion=AbsoluteTreshold"], "or the import path of a class; did you mean Absolu"),
        ([f"{V}.criterion.class_path", "Foo"], "x.criterion='Foo': no such class; accepted: Absol"),
        ([f"{V}.edit", "Zer0"], "model.variants.x.edit='Zer0': no such class; accepted: Clip, Ep"),
        ([f"{V}.criterion", "zero"], "or the import path of a class; Zero is for edit"),
        ([f"{V}.edit", "TopFraction"], "import path of a class; TopFraction is for criterion"),
        ([V, "{edit: nothing}"], "model.variants.x.edit='nothing': no such class; accepted: Clip"),
        (["-c", "class.yaml"], "model.variants.a.criterion='Foo': no such class; accepted: Absol"),
        (
            [f"{V}.criterion=3"],
            "x.criterion='3': no such class; accepted: AbsoluteThreshold, Sigma",
        ),
        ([f"{V}.criterion="], "x.criterion='': no such class; accepted: AbsoluteThreshold, Sigma"),
        ([f"{V}.edit=[Zero]"], "model.variants.x.edit='[Zero]': no such class; accepted: Clip, Ep"),
        (["-c", "dots.yaml"], "model.variants.a.b.criterion.sigmas='x': must be a number"),
        (
            ["-c", "order.yaml"],
            "model.variants.a.criterion.threshold=3: no such key; AbsoluteThreshold takes",
        ),
        (
            [Z + ".criterion.sigmas=3"],
            "zeroed.criterion.sigmas='3': no such key; AbsoluteThreshold takes threshold, SigmaThr",
        ),
        ([f"{Z}.criterion.threshold=abc"], "zeroed.criterion.threshold='abc': must be a number"),
        ([f"{Z}.criterion={{threshold: abc}}"], "criterion.threshold='abc': must be a number"),
        ([f"{Z}.criterion.threshold=true"], "zeroed.criterion.threshold='true': must be a number"),
        ([f"{Z}.edit.value=1"], "edit.value='1': is an argument of no class yet; choose one by m"),
        ([f"{Z}.edit=zero", f"{Z}.edit.value=1"], "edit.value='1': no such key; Epsilon takes val"),
        ([f"{Z}.scope", "null"], "zeroed.scope='null': must be a mapping of include, exclude,"),
        ([f"{Z}.controls", "null"], "zeroed.controls='null': must be a whole number from 0 on"),
        (["--data.splits={fit: 3}"], "data.splits.fit=3: must be text, in quotes"),
        (["-c", "{data: {batch_size: x}}"], "data.batch_size='x': must be a whole number"),
        (["-c", "typed.yaml"], "model.pretrained=3: must be text, in quotes"),
        (["--seed_everything=x"], "seed_everything='x': must be true or false, or a whole number"),
        (["--trainer.max_epochs=x"], "trainer.max_epochs='x': must be a whole number, or null"),
    ],
)
def test_one_line_says_what_is_meant(
    argv: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    files = {
        "typo.yaml": "data: {batchsize: 3}",
        "outer.yaml": "data: deep/inner.yaml",
        "deep/inner.yaml": "bos_: x",
        "null.yaml": "model:",
        "five.yaml": "model: {variants: {5: {critrion: x}}}",
        "dots.yaml": "model: {variants: {a.b: {criterion: {class_path: SigmaThreshold, "
        "init_args: {sigmas: x}}}}}",
        "order.yaml": "model: {variants: {a: {criterion: {init_args: {threshold: 3}, "
        "class_path: harness.outliers.SigmaThreshold}}}}",
        "typed.yaml": "model: {pretrained: 3}",
        "class.yaml": "model: {variants: {a: {criterion: {class_path: Foo}}}}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as error:
        check_given(values_given(argv))
    assert says in str(error.value)


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
        [f"{Z}.criterion={{threshold: 3}}", f"{Z}.criterion.init_args.threshold", "1e-3"],
        [f"{V}.criterion", "harness.outliers.TopFraction", f"{V}.criterion.fraction=1e-3"],
        ["--data.dataset=[a, 3]", "--model.device_map={a: 1}", "--trainer.callbacks=[mine.Own]"],
        ["--model.generation", "null", "--data.prompts", '["--a", "b"]'],
        ["-c"],
        ["-c", "{model: {pretrained: x}}"],
        ["--trainer.callbacks+=LearningRateMonitor"],
        ["--model.pretrained", "-c"],
    ],
)
def test_what_is_right_passes(argv: list[str]) -> None:
    check_given(values_given(argv))


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
