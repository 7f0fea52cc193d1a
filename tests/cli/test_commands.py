"""The command line: defaults, overrides, replay, and what wrong input gets."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.accelerators import CPUAccelerator
from pyarrow import parquet
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.__main__ import run as run_module
from harness.evaluation.experiment import OutlierExperiment
from tests.tiny import save_tiny

ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Calls the command line in an empty folder; returns status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_module()
        status = int(stop.value.code or 0)
        out, err = capfd.readouterr()
        return status, out, without_stages(err)

    return call


def without_stages(err: str) -> str:
    """What is said on stderr beside how far the run is."""
    names = "loading|finding outliers|scoring|writing texts|intervals and tests"
    return re.sub(rf"^(?:{names})\b.*\n", "", err, flags=re.MULTILINE)


def results(version: int = 0, name: str = "tiny-llama") -> dict[str, Any]:
    path = Path("logs") / name / f"version_{version}" / "results.json"
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.fixture
def tiny(llama_folder: Path, texts: Path) -> list[str]:
    return [
        f"--model.pretrained={llama_folder}",
        f"--data.dataset={texts}",
        "--model.variants.zeroed.criterion.threshold=0.6",
        "--model.resamples=200",
        "--trainer.enable_progress_bar=false",
    ]


def test_validate_ends_with_a_table_and_says_where_the_report_is(run: Run, tiny: list[str]) -> None:
    status, out, _ = run("validate", *tiny)
    assert status == 0
    assert "original" in out
    assert "zeroed" in out
    folder = Path("logs/tiny-llama/version_0")
    assert f"report      {folder / 'report.md'}" in out
    assert (folder / "status").read_text() == "complete\n"
    assert list(results()["variants"]) == ["original", "zeroed", "sigma5"]
    assert results()["run"]["seed"] == 42
    assert results()["variants"]["zeroed"]["edit"]["entries"] > 0
    for row in ("| original |", "| zeroed |", "| sigma5 |"):
        assert row in (folder / "report.md").read_text()


def test_config_yaml_replays_to_the_same_numbers(
    run: Run, tiny: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    controls = ["--model.variants.zeroed.controls=2", "--model.control_seed=7"]
    assert run("validate", *tiny, *controls)[0] == 0
    config = Path("logs/tiny-llama/version_0/config.yaml").absolute()
    first = results()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run("validate", "-c", config)[0] == 0
    second = results()
    for record in (first, second):
        del record["run"]
    assert first == second


def test_the_version_counts_on(run: Run, tiny: list[str]) -> None:
    for version in (0, 1):
        assert run("validate", *tiny, "--run.name=mine")[0] == 0
        assert results(version, "mine")["run"]["version"] == version


def test_test_reads_the_test_split(run: Run, llama_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "validation.jsonl").write_text('{"text": "of validation"}\n{"text": "again"}\n')
    (folder / "test.jsonl").write_text('{"text": "of the test"}\n{"text": "once more"}\n')
    options = [f"--model.pretrained={llama_folder}", f"--data.dataset={folder}"]
    assert run("test", *options, "--trainer.enable_progress_bar=false")[0] == 0
    assert results()["data"]["split"] == "test"
    assert results()["data"]["bytes"] == len("of the test") + len("once more")


def test_files_merge_from_left_to_right(run: Run, tmp_path: Path) -> None:
    first = {"model": {"variants": {"a": {"criterion": {"class_path": "AbsoluteThreshold"}}}}}
    second = {"model": {"variants": {"b": {"criterion": {"class_path": "TopFraction"}}}}}
    for name, tree in (("a.yaml", first), ("b.yaml", second)):
        (tmp_path / name).write_text(yaml.safe_dump(tree))
    added = "--model.variants.c.criterion=SigmaThreshold"
    status, out, _ = run("validate", "-c", "a.yaml", "-c", "b.yaml", added, "--print_config")
    assert status == 0
    variants = yaml.safe_load(out)["model"]["variants"]
    assert list(variants) == ["b", "c"]
    assert variants["c"]["criterion"]["class_path"].endswith("SigmaThreshold")


def test_default_variants_can_be_left_out_and_replaced(
    run: Run, tiny: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    left_out = [*tiny[:2], *tiny[3:], "--model.variants.zeroed=null"]
    named = ["--model.variants.no.criterion=topfraction", "--model.variants.no.edit", "ZERO"]
    replaced = ["--model.variants.sigma5.criterion=AbsoluteThreshold"]
    replaced += ["--model.variants.sigma5.criterion.threshold=0.6"]
    assert run("validate", *left_out, *named, *replaced)[0] == 0
    first = results()["variants"]
    assert list(first) == ["original", "sigma5", "no"]
    assert first["sigma5"]["edit"]["criterion"] == "AbsoluteThreshold(threshold=0.6)"
    config = Path("logs/tiny-llama/version_0/config.yaml").absolute()
    criterion = yaml.safe_load(config.read_text())["model"]["variants"]["sigma5"]["criterion"]
    assert criterion["init_args"] == {"threshold": 0.6}
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run("validate", "-c", config)[0] == 0
    assert results()["variants"] == first


@pytest.mark.parametrize("nothing", ["null", "{}"])
def test_all_default_variants_can_be_left_out(run: Run, tiny: list[str], nothing: str) -> None:
    options = [*tiny[:2], *tiny[3:], f"--model.variants={nothing}"]
    assert run("validate", *options)[0] == 0
    assert list(results()["variants"]) == ["original"]
    config = Path("logs/tiny-llama/version_0/config.yaml")
    assert run("validate", "-c", config, "--run.name=again")[0] == 0
    assert list(results(0, "again")["variants"]) == ["original"]


def test_a_name_that_yaml_takes_for_something_else_is_the_text(run: Run, tiny: list[str]) -> None:
    names = ("no", "null", "true", "e5")
    variants = "".join(f"    {name}: {{criterion: TopFraction}}\n" for name in names)
    Path("odd.yaml").write_text(f"model:\n  variants:\n{variants}")
    options = [*tiny[:2], *tiny[3:], "-c", "odd.yaml"]
    assert run("validate", *options, "--model.generation=null")[0] == 0
    assert list(results()["variants"]) == ["original", *names]
    config = Path("logs/tiny-llama/version_0/config.yaml")
    assert run("validate", "-c", config, "--run.name=again")[0] == 0
    assert list(results(0, "again")["variants"]) == ["original", *names]


@pytest.mark.parametrize("devices", ["auto", "1"])
def test_one_device_is_taken_however_it_is_said(
    run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    monkeypatch.setattr(CPUAccelerator, "auto_device_count", staticmethod(lambda: 4))
    assert run("validate", *tiny, f"--trainer.devices={devices}")[0] == 0
    assert results()["run"]["world_size"] == 1


def test_what_launchers_leave_in_the_environment_changes_nothing(
    run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("validate", *tiny)[0] == 0
    first = results()
    left = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 1, "SLURM_PROCID": 1, "SLURM_NTASKS": 4}
    left |= {"SLURM_JOB_NAME": "job", "SLURM_LOCALID": 1, "SLURM_JOB_ID": 7, "SLURM_NNODES": 2}
    for name, value in left.items():
        monkeypatch.setenv(name, str(value))
    status, out, err = run("validate", *tiny)
    assert (status, err) == (0, "")
    assert "report  " in out
    second = results(1)
    for record in (first, second):
        del record["run"]
    assert first == second


@pytest.mark.parametrize("command", ["validate", "fit"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError, "memory ran out; choose a smaller data.batch_size,"),
        (torch.OutOfMemoryError, "memory ran out; choose a smaller data.batch_size,"),
        (
            partial(RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried"),
            "memory ran out; choose a smaller data.batch_size,",
        ),
        (
            partial(OSError, 28, "No space left on device"),
            "logs/mine/version_0 cannot be used: No space left on device",
        ),
    ],
    ids=["MemoryError", "OutOfMemoryError", "RuntimeError", "OSError"],
)
def test_what_runs_out_is_told_in_one_line(
    run: Run,
    tiny: list[str],
    fit: list[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    error: Callable[[], Exception],
    says: str,
) -> None:
    failing(monkeypatch, command, error, at=2)
    small = ["--data.batch_size=1", "--run.name=mine", "--model.generation=null"]
    arguments = [*fit, SILENT] if command == "fit" else [*tiny, *small]
    status, out, err = run(command, *arguments)
    assert status == 1
    # What was measured before it makes partial results.
    assert ("partial: not all was measured" in " ".join(out.split())) == (command == "validate")
    (line,) = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert line.startswith(f"stopped: {says}")
    assert line.endswith("what was measured so far lies in logs/mine/version_0")
    assert Path("logs/mine/version_0/status").read_text() == "interrupted\n"


def test_any_other_fault_keeps_its_traceback(
    run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, "validate", ZeroDivisionError, at=0)
    with pytest.raises(ZeroDivisionError):
        run("validate", *tiny)


def test_what_a_file_says_cannot_act_on_the_terminal(run: Run, tiny: list[str]) -> None:
    Path("odd.yaml").write_text('model: {"pre\\e[2Jtrained\\n": x}\n')
    for arguments in (["-c", "odd.yaml"], ["--model.pre\x1b[2J\n=x"], ["--data.name=\x1b[2J"]):
        status, _, err = run("validate", *tiny, *arguments)
        assert status == 2
        assert "\x1b" not in err
        assert err.count("\n") == 1


def test_help_shows_our_own_keys_first(run: Run) -> None:
    _, out, _ = run("validate", "--help")
    places = [out.index(f"\n  --{key} ") for key in ("run.name", "model.pretrained")]
    places += [out.index(f"\n  --{key} ") for key in ("data.dataset", "activations.enabled")]
    places += [out.index("\n  --trainer.devices ")]
    assert places == sorted(places)
    assert out.startswith("usage: python -m harness validate [--KEY VALUE ...] [-c FILE ...]\n")
    text = " ".join(out.split())
    for part in (
        "--model.variants.zeroed null",
        "takes one device unless",
        "This command measures the",
    ):
        assert part in text
    assert "(type: Union[list[int], str, int], default: auto)" in text


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_help_explains_every_field(run: Run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    text = " ".join(out.split())
    for key in ("--model.pretrained", "--model.control_seed", "--data.stride", "--run.name"):
        explanation = text.rpartition(f" {key} ")[2][:600]
        assert "(type:" in explanation, key
    ours = [line for line in out.splitlines() if line.strip().startswith(("--model.", "--data."))]
    assert len(ours) > 25


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.name)
def test_every_file_in_configs_parses(run: Run, path: Path) -> None:
    command = "fit" if "fit" in path.name else "validate"
    status, out, err = run(command, "-c", path, "--print_config")
    assert (status, err) == (0, "")
    assert yaml.safe_load(out)["model"]


def test_configs_demo_is_what_no_arguments_mean(run: Run) -> None:
    _, written, _ = run("validate", "-c", ROOT / "configs/demo.yaml", "--print_config")
    _, default, _ = run("validate", "--print_config")
    assert yaml.safe_load(written) == yaml.safe_load(default)


BAD = [
    (["--model.variants.zeroed.criterion.threshold=-7"], "criterion.threshold=-7.0: must be a po"),
    (["--model.variants.zeroed.criterion.threshold=0"], "criterion.threshold=0.0: must be a pos"),
    (["--model.variants.zeroed.criterion.threshold=.inf"], "threshold=inf: must be a positive"),
    (["--model.variants.zeroed.criterion.threshold=.nan"], "threshold=nan: must be a positive"),
    (["--model.variants.zeroed.criterion=Foo"], "variants.zeroed.criterion='Foo': no such class"),
    (
        ["--model.variants.zeroed.criterian=Foo"],
        "criterian='Foo': no such key; did you mean model.var",
    ),
    (["--model.variants.zeroed.scope.include=[no*]"], "model.variants.zeroed.scope.include='no*'"),
    (["--model.variants.new.patch=no.safetensors"], "model.variants.new.patch='no.safetensors'"),
    (["--model.nothing=1"], "model.nothing='1': no such key; --help lists"),
    (["--model.dtype=float8"], "model.dtype='float8': Expected one of ['auto', 'float32'"),
    (["--model.resamples=0"], "model.resamples='0': Not of type PositiveInt"),
    (["--model.confidence=1"], "model.confidence='1': Not of type OpenUnitInterval"),
    (["--data.batch_size=0"], "data.batch_size=0: give a whole number from 1 on"),
    (["--data.max_length=65"], "data.max_length=65: beyond the 64 positions"),
    (["--data.max_length=32", "--data.stride=33"], "data.stride=33: above data.max_length=32"),
    (["--data.text_column=body"], "data.text_column='body': no such column; there are text"),
    (["--data.dataset=nowhere.txt"], "nowhere.txt': no such file or folder"),
    (["--data.dataset=empty.txt"], "empty.txt': no text in it"),
    (["--model.pretrained=./nowhere"], "model.pretrained='./nowhere': no such folder"),
    (["--model.tokenizer=./nowhere"], "model.tokenizer='./nowhere': no such folder"),
    (["--run.name=a/b"], "run.name='a/b': must be the name of one folder"),
    (["--model.confidence=x"], "model.confidence='x': Not of type OpenUnitInterval"),
    (["--model.training.learning_rate=x"], "training.learning_rate='x': Not of type PositiveFloat"),
    (
        ["--model.training.weight_decay=-1"],
        "training.weight_decay='-1': Not of type NonNegativeFloat",
    ),
    (["--model.variants.new=3"], "model.variants.new='3': must be a mapping"),
    (["--model.variants.zeroed.scope=3"], "model.variants.zeroed.scope='3': must be a mapping"),
    (["--data.max_length=x"], "data.max_length='x': Expected a int or null"),
    (["--data.splits={fit: 3}"], "data.splits.fit=3: Expected a str"),
    (["--model=x"], "model='x': has keys below it; did you mean --model.pretrained x?"),
    (["-c", "null.yaml"], "model=None: must be a mapping"),
    (["-c", "three.yaml"], "activations.sites=[1, 2]: must be a mapping of types, include, "),
    (["--activations.sites={bogus: 1}"], "activations.sites.bogus=1: no such key; --help lists"),
    (["-c", "bogus.yaml"], "model.bogus=1: no such key; --help lists the keys"),
    (["stray"], "argument='stray': belongs to no option"),
    (["--trainer.accelerator=nonsense"], "'trainer.accelerator': 'nonsense'}: You selected an inv"),
    (["--run.name=.."], "run.name='..': must be the name of one folder"),
    (["-c", "no.yaml"], "no.yaml': no such file"),
    (["--seed_everything=-1"], "seed_everything=-1: must be a whole number from 0 to 4294967295"),
    (["--seed_everything=4294967296"], "seed_everything=4294967296: must be a whole number from 0"),
    (["--trainer.limit_val_batches=0"], "limit_val_batches=0: must be a whole number of batches"),
    (
        ["--trainer.precision=16-true"],
        "trainer.precision='16-true': the precision of an evaluation",
    ),
    (["--trainer.precision=bf16-mixed"], "trainer.precision='bf16-mixed': the precision of an eva"),
    (["--trainer.limit_val_batches=1.5"], "limit_val_batches=1.5: must be a whole number of batch"),
    (["--trainer.limit_val_batches=-2"], "limit_val_batches=-2: must be a whole number of batches"),
    (["--trainer.limit_val_batches=0.0001"], "limit_val_batches=0.0001: less than one of"),
    (["--data.dataset="], "data.dataset='': name a hub id, a path, or demo"),
    (["--trainer.devices=-1"], ": `devices` selected with `CPUAccelerator` should be an int > 0"),
    (["--trainer.num_nodes=2"], ": each node needs NODE_RANK, MASTER_ADDR and MASTER_PORT"),
    (["-c", "names.yaml"], "model.variants.5='5': a variant is named by at most 64 letters"),
    (["-c", "splits.yaml"], "data.splits='no': choose one of fit, validate, test, predict"),
    (["--model.variants.status.criterion=TopFraction"], "model.variants.status='status': is tak"),
    (["-c", "reserved.yaml"], "variants.results.json='results.json': is taken: a run's folder"),
    (["--model.variants.zeroed.criterion.treshold=3"], "no such key; AbsoluteThreshold takes thr"),
    (["--model.tokenizer=demo"], "of the text, where the model has 260 tokens; give the tokenizer"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_gets_one_line_and_status_2(
    run: Run, tiny: list[str], arguments: list[str], says: str
) -> None:
    Path("empty.txt").touch()
    Path("bogus.yaml").write_text("model: {bogus: 1}\n")
    Path("names.yaml").write_text("model: {variants: {5: {criterion: TopFraction}}}\n")
    Path("splits.yaml").write_text("data: {splits: {no: test}}\n")
    Path("reserved.yaml").write_text("model: {variants: {results.json: {criterion: TopFraction}}}")
    Path("null.yaml").write_text("model:\n")
    Path("three.yaml").write_text("activations: {sites: [1, 2]}\n")
    status, out, err = run("validate", *tiny, *arguments)
    assert status == 2
    assert out == ""
    assert err.startswith("refused: ")
    assert says in err
    assert err.count("\n") == 1, err
    assert not Path("logs").exists()


def test_a_patch_of_another_model_is_refused(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run("validate", *tiny)[0] == 0
    patch = Path("logs/tiny-llama/version_0/patches/zeroed.safetensors")
    other = save_tiny(tmp_path / "other", seed=1)
    option = f"--model.variants.saved.patch={patch}"
    status, _, err = run("validate", *tiny, f"--model.pretrained={other}", option)
    assert status == 2
    assert "model.variants.saved.patch" in err
    assert "another model" in err
    assert not Path("logs/other").exists()


@pytest.fixture
def fit(llama_folder: Path, tmp_path: Path) -> list[str]:
    """A training from scratch that takes a moment."""
    text = tmp_path / "text.txt"
    text.write_text("the same few words again and again, " * 200)
    architecture = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 16}
    architecture |= {"num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 260}
    tree = {
        "model": {
            "tokenizer": str(llama_folder),
            "architecture": architecture | {"max_position_embeddings": 32},
            "training": {"learning_rate": 1e-2, "warmup_steps": 2},
        },
        "data": {"dataset": str(text), "batch_size": 4},
        "trainer": {"max_steps": 30, "val_check_interval": 15, "log_every_n_steps": 5},
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(tree))
    return ["-c", "fit.yaml", "--run.name=mine"]


SILENT = "--trainer.enable_progress_bar=false"


def test_a_training_from_scratch_is_named_after_its_architecture(run: Run, fit: list[str]) -> None:
    assert run("fit", *fit[:2], SILENT, "--trainer.max_steps=1")[0] == 0
    assert (Path("logs/llama/version_0") / "status").read_text() == "complete\n"


def test_fit_trains_from_scratch(run: Run, fit: list[str], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    status, out, err = run("fit", *fit, SILENT)
    assert status == 0
    assert err.count(f"note: data.dataset='{text}' is read whole, so validation runs on") == 1
    folder = Path("logs/mine/version_0")
    assert f"checkpoints {folder / 'checkpoints'}" in out
    assert (folder / "status").read_text() == "complete\n"
    trained = folder / "checkpoints" / "best"
    options = [f"--model.pretrained={trained}", f"--data.dataset={text}", "--run.name=trained"]
    assert run("validate", *options, "--trainer.enable_progress_bar=false")[0] == 0
    assert results(0, "trained")["variants"]["original"]["likelihood"]["nll"] < 4.0


def test_a_training_that_diverges_says_so(run: Run, fit: list[str]) -> None:
    steep = ["--model.training.learning_rate=1e30", "--trainer.max_steps=4"]
    status, _, err = run("fit", *fit, *steep, "--trainer.val_check_interval=2", SILENT)
    assert status == 0
    assert "note: the training diverged: its nll is not finite" in err


def test_a_training_is_shown_by_its_steps_in_80_columns(
    run: Run, fit: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    # Two batches make a step, and several epochs the training.
    more = ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=1.0"]
    status, out, err = run("fit", *fit, *more)
    assert status == 0
    figures = r"loss: \d\.\d{3} val nll: \d\.\d{3}"
    shown = rf"^Training +━+ 30/30 \d:\d\d:\d\d • 0:00:00 {figures}$"
    assert re.search(shown, "\n".join(map(str.rstrip, err.splitlines())), re.MULTILINE), err
    assert "v_num" not in err
    assert "Epoch" not in err
    bars = [line.rstrip() for line in err.splitlines() if "━" in line]
    assert bars
    assert max(map(len, bars)) <= 80
    assert "Training" not in out


def test_another_progress_bar_can_be_chosen(run: Run, tiny: list[str]) -> None:
    bar = "--trainer.callbacks=lightning.pytorch.callbacks.TQDMProgressBar"
    status, out, _ = run("validate", *tiny, "--trainer.enable_progress_bar=true", bar)
    assert status == 0
    assert "Validation DataLoader 0: 100%" in out


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """Gives signals back to whoever had them before the command line took them.

    Tests that were started by nohup, or in the background, are told to ignore some of them.
    """
    handlers = {each: signal.signal(each, signal.SIG_DFL) for each in SIGNALS}
    yield
    for each, handler in handlers.items():
        signal.signal(each, handler)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def failing(
    monkeypatch: pytest.MonkeyPatch, command: str, error: Callable[[], BaseException], at: int
) -> None:
    """Makes one of the experiment's steps end in an error."""

    def fail(by: object) -> None:
        raise error()

    monkeypatch.setattr(signal, "raise_signal", fail)
    interrupting(monkeypatch, command, signal.SIGTERM, at)


def interrupting(
    monkeypatch: pytest.MonkeyPatch, command: str, by: signal.Signals, at: int, times: int = 1
) -> None:
    """Sends this process signals before one of the experiment's steps is done."""
    steps = {"fit": "training_step", "predict": "predict_step", "test": "test_step"}
    step = steps.get(command, "validation_step")
    original = getattr(OutlierExperiment, step)

    def sent(self: OutlierExperiment, batch: Any, batch_idx: int, *more: int) -> Any:
        for _ in range(times if batch_idx == at else 0):
            signal.raise_signal(by)
        return original(self, batch, batch_idx, *more)

    monkeypatch.setattr(OutlierExperiment, step, sent)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize(
    ("command", "by", "times"),
    [
        ("validate", signal.SIGINT, 1),
        ("validate", signal.SIGTERM, 1),
        ("validate", signal.SIGHUP, 2),
        ("test", signal.SIGTERM, 2),
        ("predict", signal.SIGINT, 1),
        ("fit", signal.SIGINT, 1),
        ("fit", signal.SIGTERM, 2),
    ],
)
def test_a_signal_says_where_the_run_lies(
    run: Run,
    tiny: list[str],
    fit: list[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    by: signal.Signals,
    times: int,
) -> None:
    interrupting(monkeypatch, command, by, at=2, times=times)
    small = ["--data.batch_size=1", "--data.prompt_batch_size=1", "--run.name=mine"]
    prompts = ['--data.prompts=["One", "Two", "Three", "4"]', "--model.generation.max_new_tokens=3"]
    arguments = [*fit, SILENT] if command == "fit" else [*tiny, *small, *prompts]
    status, out, err = run(command, *arguments)
    folder = Path("logs/mine/version_0")
    assert status == 143
    last = err.splitlines()[-1]
    lies = f"what was measured so far lies in {folder}"
    assert last == f"interrupted: {lies}; --resume {folder} goes on"
    assert (folder / "status").read_text() == "interrupted\n"
    # The first signal waits for the batch, which counts; a second one ends at once.
    steps = set(parquet.read_table(folder / "activations.parquet")["step"].to_pylist())
    assert steps == ({0, 1} if times == 2 else {0, 1, 2})
    assert yaml.safe_load((folder / "config.yaml").read_text())["run"]["name"] == "mine"
    if command != "fit":
        assert "partial: not all was measured" in " ".join(out.split())
        assert json.loads((folder / "results.json").read_text())["run"]["partial"] is True


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize(
    ("command", "at", "accumulate", "log"),
    [
        ("fit", 2, 1, 5),
        ("fit", 4, 1, 5),
        ("fit", 7, 1, 1),
        ("fit", 14, 1, 5),
        ("fit", 20, 1, 5),
        ("fit", 5, 2, 1),
        ("validate", 4, 1, 1),
    ],
)
def test_a_training_goes_on_where_a_signal_ended_it(
    run: Run,
    fit: list[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    at: int,
    accumulate: int,
    log: int,
) -> None:
    small = ["--trainer.check_val_every_n_epoch=null", "--trainer.max_steps=25", SILENT]
    small += ["--data.batch_size=8", f"--trainer.accumulate_grad_batches={accumulate}"]
    small += [f"--trainer.log_every_n_steps={log}"]
    assert run("fit", *fit, *small, "--run.name=whole")[0] == 0
    with monkeypatch.context() as patched:
        interrupting(patched, command, signal.SIGTERM, at=at)
        status, _, err = run("fit", *fit, *small)
    assert status == 143, err
    folder, whole = Path("logs/mine/version_0"), Path("logs/whole/version_0")
    assert (folder / "status").read_text() == "interrupted\n"
    assert (folder / "checkpoints/interrupted.ckpt").exists()
    before = (folder / "config.yaml").read_text()
    status, _, err = run("fit", "--resume", folder)
    assert status == 0, err
    assert (folder / "config.yaml").read_text() == before
    assert not (folder / "checkpoints/interrupted.ckpt").exists()
    assert_same_training(folder, whole)


def test_a_training_goes_on_from_a_checkpoint_long_before_it_failed(
    run: Run, fit: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("fit", *fit, SILENT, "--run.name=whole")[0] == 0
    with monkeypatch.context() as patched:
        failing(patched, "fit", lambda: MemoryError("too much"), at=27)
        status, _, err = run("fit", *fit, SILENT)
    folder, whole = Path("logs/mine/version_0"), Path("logs/whole/version_0")
    assert status == 1, err
    steps = parquet.read_table(folder / "activations.parquet")["step"].to_pylist()
    assert max(steps) == 26
    assert run("fit", "--resume", folder)[0] == 0
    assert_same_training(folder, whole)


def assert_same_training(folder: Path, whole: Path) -> None:
    assert (folder / "status").read_text() == "complete\n"
    for name in ("last", "best"):
        weights = f"checkpoints/{name}/model.safetensors"
        assert (folder / weights).read_bytes() == (whole / weights).read_bytes()
    table, other = (parquet.read_table(path / "activations.parquet") for path in (folder, whole))
    assert table.equals(other)
    assert logged(folder) == logged(whole)


def logged(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves of a training's likelihood, as TensorBoard shows them."""
    shown = EventAccumulator(str(folder / "original"), {"scalars": 0})
    shown.Reload()
    tags = [tag for tag in shown.Tags()["scalars"] if tag.startswith("likelihood/")]
    return {tag: [(each.step, each.value) for each in shown.Scalars(tag)] for tag in tags}


def test_a_training_without_a_checkpoint_is_not_resumed(run: Run, fit: list[str]) -> None:
    assert run("fit", *fit, SILENT, "--trainer.enable_checkpointing=false")[0] == 0
    folder = Path("logs/mine/version_0")
    status, _, err = run("fit", "--resume", folder)
    assert (status, "has no checkpoint to go on from" in err) == (2, True)
    status, _, err = run("validate", "--resume", folder)
    assert (status, "is a run of fit" in err) == (2, True)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.parametrize("by", SIGNALS, ids=str)
def test_a_signal_before_there_is_a_run(
    run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    said = "interrupted: before anything was measured\n"
    for place in (
        "data.TextDataModule.setup",
        "cli.commands.HarnessCLI.before_instantiate_classes",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"harness.{place}", lambda *_, **__: signal.raise_signal(by))
            assert run("validate", *tiny) == (143, "", said)
    assert not Path("logs").exists()


@pytest.mark.usefixtures("_own_signals")
def test_a_signal_while_the_libraries_are_imported(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.cli.main", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit) as stop:
        run_module()
    assert stop.value.code == 143
    assert capfd.readouterr() == ("", "interrupted: before anything was measured\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "must hold a mapping"),
        ("model: {a: [", "while parsing"),
        ("model:\n  variants:\n    a: {}\n    a: {}\n", "says a twice"),
    ],
)
def test_a_wrong_file_is_named(run: Run, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    status, _, err = run("validate", "-c", "wrong.yaml")
    assert status == 2
    assert err.startswith("refused: config='wrong.yaml': ")
    assert says in err
    assert err.count("\n") == 1


def test_fit_validates_at_most_once_in_an_epoch_or_across_them(run: Run, fit: list[str]) -> None:
    # 7,200 bytes are 225 windows of 32, 56 batches of 4.
    text = ["--data.max_length=32", "--data.bos=none", "--trainer.max_steps=1", SILENT]
    interval = ["--trainer.val_check_interval=1000"]
    status, _, err = run("fit", *fit, *text, *interval)
    assert status == 2
    assert "refused: trainer.val_check_interval=1000: an epoch has 56 batches;" in err
    across = ["--trainer.check_val_every_n_epoch=null"]
    assert run("fit", *fit, *text, *interval, *across)[0] == 0
    assert run("fit", *fit, *text, *interval, "--trainer.limit_val_batches=0")[0] == 0
    _, _, err = run("fit", *fit, *text, "--trainer.overfit_batches=2")
    assert "trainer.overfit_batches=2" in err
    part = ["--trainer.limit_train_batches=0.5", "--trainer.val_check_interval=29"]
    _, _, err = run("fit", *fit, *text, *part)
    assert "val_check_interval=29: an epoch has 28 batches" in err
    limited = ["--trainer.limit_train_batches=5", "--trainer.val_check_interval=6"]
    _, _, err = run("fit", *fit, *text, *limited)
    assert "val_check_interval=6: an epoch has 5 batches" in err


def test_a_folder_is_no_file(run: Run, tmp_path: Path) -> None:
    status, _, err = run("validate", "-c", tmp_path)
    assert status == 2
    assert err == f"refused: config='{tmp_path}': no such file\n"


def test_a_file_belongs_after_the_command(run: Run) -> None:
    for argv in (["-c", "a.yaml", "validate"], ["--config=a.yaml", "validate"]):
        status, _, err = run(*argv)
        assert status == 2
        assert f"belongs after the command: python -m harness validate {' '.join(argv[:-1])}" in err


def test_fit_must_be_told_how_long_and_from_what(run: Run, tmp_path: Path) -> None:
    status, _, err = run("fit")
    assert status == 2
    assert err.startswith("refused: trainer.max_steps=-1: say how long to train")
    # The learning rate falls to the last step, and of a time nobody knows how many there are.
    for other in ("--trainer.max_time=00:00:01:00", "--trainer.max_epochs=-1"):
        status, _, err = run("fit", other)
        assert status == 2
        assert err.startswith("refused: trainer.max_steps=-1: say how long to train")
    for key in ("max_steps", "max_epochs", "accumulate_grad_batches"):
        status, _, err = run("fit", "--trainer.max_steps=1", f"--trainer.{key}=0")
        assert status == 2
        assert err.startswith(f"refused: trainer.{key}=0: nothing would be learnt")
    (tmp_path / "junk.ckpt").write_bytes(b"junk")
    for name, says in (("no.ckpt", "no such file"), ("junk.ckpt", "cannot be read")):
        status, _, err = run("fit", "--trainer.max_steps=1", f"--ckpt_path={name}")
        assert status == 2
        assert "ckpt_path=" in err
        assert says in err


def test_python_m_harness_works_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "validate", "--data.stride", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "refused: data.stride=0: give a whole number from 1 on\n"
    assert not any(tmp_path.iterdir())


def test_a_number_of_batches_is_no_share_of_them(tmp_path: Path) -> None:
    # In a process of its own: which type jsonargparse tries first depends on what was imported
    # before.
    keys = ["--trainer.limit_val_batches=1", "--data.batch_size=4", "--model.variants=null"]
    command = [sys.executable, "-m", "harness", "validate"]
    config = tmp_path / "logs/demo/version_0/config.yaml"
    for version, given in enumerate(([*keys, "--model.generation=null"], ["-c", str(config)])):
        done = subprocess.run([*command, *given], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        path = tmp_path / f"logs/demo/version_{version}/results.json"
        results = json.loads(path.read_text())
        assert (results["data"]["windows"], results["run"]["partial"]) == (4, True)


# -- texts -------------------------------------------------------------------------------------


def generations(version: int = 0, name: str = "tiny-llama") -> list[dict[str, Any]]:
    path = Path("logs") / name / f"version_{version}" / "generations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


PROMPTS = ["--model.generation.max_new_tokens=6", '--data.prompts=["One", "Two and"]']


def test_predict_writes_texts_and_says_where(run: Run, tiny: list[str]) -> None:
    status, out, err = run("predict", *tiny, *PROMPTS)
    assert (status, err) == (0, "")
    folder = Path("logs/tiny-llama/version_0")
    assert f"texts       {folder / 'generations.jsonl'}" in out
    assert "“One”" in out
    assert (folder / "status").read_text() == "complete\n"
    assert "texts after 2 prompts" in out
    found = results()
    assert found["run"]["command"] == "predict"
    assert found["data"] is found["noise_floor"] is None
    assert found["variants"]["original"]["likelihood"] is None
    assert found["variants"]["original"]["generation"]["prompts"] == 2
    rows = generations()
    names = ["original", "zeroed", "sigma5"]
    # A row for each variant and its first control; a variant that is the original writes its text.
    leading = [row["variant"] for row in rows if row["prompt_number"] == 0]
    assert [name for name in leading if "-control-" not in name] == names
    assert all(name.endswith("-control-0") for name in leading if "-control-" in name)
    assert {(row["prompt_number"], row["prompt"]) for row in rows} == {(0, "One"), (1, "Two and")}
    assert all(0 < len(row["tokens"]) <= 6 and not row["broken"] for row in rows)
    # The same again, whatever the seed of the run.
    assert run("predict", *tiny, *PROMPTS, "--seed_everything=7")[0] == 0
    assert generations(1) == rows


def test_predict_reads_prompts_from_a_file(run: Run, tiny: list[str], tmp_path: Path) -> None:
    assert run("predict", *tiny, *PROMPTS)[0] == 0
    rows = generations()
    Path("prompts.txt").write_text("One\n\nTwo and\n")
    assert run("predict", *tiny, *PROMPTS, "--data.prompts=prompts.txt")[0] == 0
    assert generations(1) == rows


def test_config_yaml_replays_prompts_and_metrics_from_elsewhere(
    run: Run, tiny: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    Path("prompts.txt").write_text("One\nTwo and\n")
    options = [PROMPTS[0], "--data.prompts=prompts.txt", "--model.generation.do_sample=true"]
    assert run("predict", *tiny, *options)[0] == 0
    rows = generations()
    config = Path("logs/tiny-llama/version_0/config.yaml").absolute()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run("predict", "-c", config)[0] == 0
    assert generations() == rows


def test_validate_measures_texts_of_variants_and_first_controls(run: Run, tiny: list[str]) -> None:
    controls = ["--model.variants.zeroed.controls=3"]
    status, out, _ = run("validate", *tiny, *PROMPTS, *controls)
    assert status == 0
    assert "texts after 2 prompts" in out
    assert "“" in out
    found = results()
    for name, record in found["variants"].items():
        assert record["generation"]["prompts"] == 2, name
        assert 0 < record["generation"]["tokens"] <= 12
        assert (record["generation"]["identical_to_original"] is None) == (name == "original")
    controlled = {
        name: record["generation"] is not None for name, record in found["controls"].items()
    }
    assert controlled["zeroed-control-0"] is True
    assert not any(has for name, has in controlled.items() if not name.endswith("-control-0"))
    assert {"zeroed-control-1", "zeroed-control-2"} <= set(controlled)
    assert (Path("logs/tiny-llama/version_0") / "generations.jsonl").is_file()
    rows = generations()
    assert run("predict", *tiny, *PROMPTS, *controls)[0] == 0
    assert generations(1) == rows
    # A folder in TensorBoard, and a row of HParams, for whatever was looked at.
    for version, looked_at in ((0, found["variants"] | found["controls"]), (1, controlled)):
        folder = Path(f"logs/tiny-llama/version_{version}")
        shown = {path.parent.name for path in folder.glob("*/events.out.tfevents.*")}
        assert shown == {n for n, has in looked_at.items() if has} | set(found["variants"])


def test_without_generation_there_are_no_texts(run: Run, tiny: list[str]) -> None:
    assert run("validate", *tiny, "--model.generation=null")[0] == 0
    records = results()["variants"] | results()["controls"]
    assert all(record["generation"] is None for record in records.values())
    assert not (Path("logs/tiny-llama/version_0") / "generations.jsonl").exists()


def test_prompts_may_be_there_for_nothing(run: Run, tiny: list[str]) -> None:
    options = ["--model.generation=null", "--data.prompts=null"]
    assert run("validate", *tiny, *options)[0] == 0


BAD_TEXTS = [
    (
        ["--model.generation.max_new_tokens=0"],
        "model.generation.max_new_tokens='0': Not of type PositiveInt",
    ),
    (["--data.prompts=[]"], "data.prompts=[]: holds no prompts; give texts to continue"),
    (["--data.prompts=null"], "data.prompts=None: model.generation asks for texts; give a list"),
    (["--data.prompts=nowhere.txt"], "nowhere.txt': no such file; give txt, jsonl, csv or"),
    (["--data.prompts=empty.txt"], "empty.txt': holds no prompts"),
    (['--data.prompts=["a", ""]'], "data.prompts='': prompt 1 is empty; give texts to continue"),
    (
        [f'--data.prompts=["{"x" * 60}"]', "--model.generation.max_new_tokens=8"],
        f"data.prompts='{'x' * 40}…': prompt 0 has 60 tokens, which with 8 new ones "
        "(model.generation.max_new_tokens) exceed the model's 64 positions; shorten it, or",
    ),
    (['--data.prompts=["a", null]'], "data.prompts=None: prompt 1 is no text; put each in quotes"),
    (["--data.prompts=folder"], "folder': a folder, not a file of prompts; give txt, jsonl, csv"),
    (["--data.prompts=rows.jsonl"], "rows.jsonl': row 2 is empty, null or missing; give texts"),
    (["--data.prompts=long.txt"], f"long.txt': line 3, '{'y' * 40}…', has 80 tokens, which with"),
    (["--data.prompts=" + "a long sentence " * 30], "': no such file; give txt, jsonl, csv or"),
    (["--data.chat_template=true"], "data.chat_template=True: the tokenizer has no chat template"),
    (["--data.prompt_batch_size=0"], "data.prompt_batch_size=0: give a whole number from 1 on"),
    (
        ["--model.generation.metrics=[rouge]"],
        "model.generation.metrics='rouge': a metric is code of someone's that would run on this "
        "machine; read it, then allow it by model.trust_remote_code=true",
    ),
    (
        ["--model.generation.metrics=[no-such-metric]", "--model.trust_remote_code=true"],
        "model.generation.metrics='no-such-metric': no such script here",
    ),
    (
        ["--model.generation.temperature=1", "--model.generation.arguments={temperature: 0.5}"],
        "arguments.temperature=0.5: is not free: set model.generation.temperature, which is 1.0",
    ),
    (
        ["--model.generation.arguments={nonsense: 1}"],
        "model.generation.arguments.nonsense=1: generate of transformers has no such argument",
    ),
    (
        ["--model.generation.arguments={remove_invalid_values: true}"],
        "arguments.remove_invalid_values=True: is not free: logits that are not finite would go",
    ),
    (["--model.generation.arguments={min_p: 7}"], "min_p=7: must be above 0 and below 1"),
    (["--model.generation.temperature=-1"], "model.generation.temperature=-1.0: must be above 0"),
    (
        ["--model.generation.temperature=abc"],
        "model.generation.temperature='abc': Expected a float or null",
    ),
    (
        ["--model.generation.temperature=0"],
        "model.generation.temperature=0.0: must be above 0, from 1e-6 to 1e6; do_sample: false "
        "takes the likeliest token each time",
    ),
    (["--model.generation.temperature=.inf"], "temperature=inf: must be above 0, from 1e-6 to"),
    (["--model.generation.temperature=1e-30"], "temperature=1e-30: must be above 0, from 1e-6"),
    (
        ["--model.generation.temperature=0.7"],
        "model.generation.temperature=0.7: would do nothing, since the likeliest token is taken "
        "each time; set model.generation.do_sample: true, or leave it out",
    ),
    (
        ["--model.generation.arguments={min_p: 0.1}"],
        "model.generation.arguments.min_p=0.1: would do nothing",
    ),
    (
        ["--model.generation.metrics=[1]"],
        "model.generation.metrics='[1]': Expected a str",
    ),
    (["--model.generation={temperature: x}"], "model.generation.temperature='x': Expected a float"),
    (
        ["--model.generation=x"],
        "model.generation='x': must be a mapping of max_new_tokens,",
    ),
    (["--model.generation.top_p=1.5"], "model.generation.top_p=1.5: must be from 0 to 1"),
    (["--model.generation.top_k=-1"], "model.generation.top_k=-1: must be from 0 on"),
    (["--model.generation.seed=-1"], "model.generation.seed='-1': Not of type NonNegativeInt"),
    (["--model.generation.nonsense=1"], "model.generation.nonsense='1': no such key"),
    (["--activations.sites.types=[Bogus]"], "activations.sites.types='Bogus': matches no class"),
    (
        ["--activations.sites=*.mlp"],
        "activations.sites='*.mlp': must be a mapping of types, include, exclude: '{key: value}'",
    ),
    (["--activations.sites.include=[no*]"], "activations.sites.include='no*'"),
    (["--activations.threshold=-1"], "activations.threshold=-1.0: must be a positive"),
    (["--activations.every_n_steps=0"], "activations.every_n_steps='0': Not of type PositiveInt"),
]


@pytest.mark.parametrize(
    ("arguments", "says"), BAD_TEXTS, ids=[" ".join(case[0])[:60] for case in BAD_TEXTS]
)
def test_what_is_wrong_about_texts_is_refused_before_a_model_is_loaded(
    run: Run,
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    def loaded(_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("harness.models.Pretrained.load", loaded)
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)
    Path("empty.txt").touch()
    Path("folder").mkdir()
    Path("rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": null}\n')
    Path("long.txt").write_text(f"a\n\n{'y' * 80}\n")
    # What is wrong about prompts is so for either command.
    command = "predict" if "prompts" in arguments[0] else "validate"
    status, out, err = run(command, *tiny, PROMPTS[1], *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("refused: ")
    assert says in err
    assert err.count("\n") == 1, err
    assert not Path("logs").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("{num_beams: 4}", "num_beams=4: generate of transformers fails on it: 2 prompts have 8"),
        ("{bad_words_ids: [[999]]}", "fails on it: The model vocabulary size is"),
        ("{prompt_lookup_num_tokens: 2}", "fails on it: assisted generate is only supported for"),
        ("{exponential_decay_length_penalty: 3}", "fails on it: TypeError: 'int' object is not"),
    ],
)
def test_what_the_model_cannot_be_measured_with_is_refused_once_it_is_loaded(
    run: Run, tiny: list[str], arguments: str, says: str
) -> None:
    option = f"--model.generation.arguments={arguments}"
    status, out, err = run("predict", *tiny, *PROMPTS, option)
    assert (status, out) == (2, "")
    assert "refused: model.generation.arguments." in err.splitlines()[-1]
    assert says in err.splitlines()[-1]
    assert not Path("logs").exists()


def test_training_does_not_try_how_texts_are_generated(run: Run, fit: list[str]) -> None:
    options = ["--model.generation.arguments={num_beams: 4}", "--trainer.max_steps=1"]
    assert run("fit", *fit[:2], SILENT, *options)[0] == 0


def test_predict_without_generation_is_refused(run: Run, tiny: list[str]) -> None:
    status, out, err = run("predict", *tiny, "--model.generation=null")
    assert (status, out) == (2, "")
    assert err == (
        "refused: model.generation=None: predict generates text: "
        "--model.generation.max_new_tokens says how much\n"
    )
    assert not Path("logs").exists()


@pytest.mark.parametrize("place", ["/proc/nowhere", "a-file"])
def test_where_no_folder_can_be_made(run: Run, tiny: list[str], place: str) -> None:
    Path("a-file").touch()
    status, out, err = run("validate", *tiny, f"--run.save_dir={place}")
    assert (status, out) == (2, "")
    assert f"refused: run.save_dir='{place}': no folder can be made here (" in err
    assert err.count("refused") == 1


def test_config_yaml_replays_metrics_from_elsewhere(
    run: Run, tiny: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    Path("mine.py").write_text(
        "import evaluate\n"
        "from datasets import Features, Value\n\n\n"
        "class Mine(evaluate.Metric):\n"
        "    def _info(self):\n"
        '        features = Features(predictions=Value("string"))\n'
        '        return evaluate.MetricInfo(description="", citation="", features=features)\n\n'
        "    def _compute(self, predictions):\n"
        '        return {"letters": sum(map(len, predictions))}\n'
    )
    named = ["--model.generation.metrics=[mine.py]", "--model.trust_remote_code=true"]
    assert run("predict", *tiny, *PROMPTS, *named)[0] == 0
    first = results()["variants"]["original"]["generation"]["metrics"]
    assert first
    config = Path("logs/tiny-llama/version_0/config.yaml").absolute()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    status, out, _ = run("predict", "-c", config)
    assert status == 0
    assert "further metrics of the texts" in out
    assert results()["variants"]["original"]["generation"]["metrics"] == first


def test_splits_of_nothing_are_refused(run: Run, tiny: list[str]) -> None:
    Path("null.yaml").write_text("data: {splits: null}\n")
    status, _, err = run("validate", *tiny, "-c", "null.yaml")
    assert status == 2
    assert "refused: data.splits=None: must be dict[str, str], not null" in err


def test_a_share_of_the_batches_and_what_was_left_out_are_in_the_results(
    run: Run, tiny: list[str]
) -> None:
    folder = Path("wiki [en]")
    folder.mkdir()
    rows = [{"n": number, "page": f"A text with the number {number}. " * 9} for number in range(12)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "photo.png").touch()
    status, _, err = run(
        "validate",
        *tiny,
        f"--data.dataset={folder}",
        "--data.prompts=[One, Two]",
        "--data.batch_size=1",
        "--trainer.limit_val_batches=0.2",
        "--model.generation.max_new_tokens=2",
    )
    assert status == 0
    left_out = "is left out, as no text of the data set: 1 of 2 files, 'photo.png' for one"
    assert left_out in err
    found = results()
    assert any(left_out in warning for warning in found["warnings"])
    assert found["run"]["partial"] is True
    assert found["data"]["text_column"] == "page"
    assert found["data"]["windows"] == 9  # of 48, four of each text
    assert found["variants"]["original"]["generation"]["prompts"] == 2
