"""``validate`` from the finding of outliers to its last file, against four bare forwards."""

from __future__ import annotations

import io
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.shapes import Bench
from harness.base.console import quiet
from harness.cli.commands import run
from harness.cli.given import values_given
from harness.cli.launch import Launch

CLAIM = "validate of 64 windows and 16 prompts, by four bare forwards of the windows"
BOUNDS = {"cuda": {"1B": 2.0}}
WINDOWS = 64


class Clock(Callback):
    """Times runs, from when the weights are in place to when all files are complete.

    Attributes:
        seconds: What the last run took.
    """

    seconds = 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins."""
        self._began = time.perf_counter()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ends."""
        Clock.seconds = time.perf_counter() - self._began


def ratio(bench: Bench, pairs: int = 3, windows: int = WINDOWS) -> float:
    """Observed, with one variant and one control; loading is left out."""
    quiet()
    batches = windows // bench.shape.rows
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump(_config(bench, folder, batches)))
        argv = ["validate", "-c", str(config)]

        def validate() -> None:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
                status = run(argv, list(values_given(argv[1:])), Launch())
            assert status == 0, said.getvalue()

        def forwards() -> None:
            for _ in range(4 * batches):
                bench.bare()

        found = []
        for _ in range(pairs + 1):  # kernels are compiled in the first
            validate()
            found.append(Clock.seconds / bench.seconds(forwards))
    return sorted(found[1:])[pairs // 2]


def _config(bench: Bench, folder: str, batches: int) -> dict[str, object]:
    variant = {
        "criterion": {"class_path": "TopFraction", "init_args": {"fraction": 1e-4}},
        "scope": {"matrices_only": True},
        "controls": 1,
    }
    model = {
        "architecture": {"model_type": "llama", "max_position_embeddings": 4096}
        | bench.shape.config,
        "tokenizer": "demo",
        "dtype": "bfloat16" if bench.device == "cuda" else "float32",
        "variants": {"edited": variant, "zeroed": None, "sigma5": None},
        "generation": {"max_new_tokens": 40},
    }
    data = {
        "dataset": "demo",
        "join": "corpus",
        "max_length": bench.shape.length,
        "batch_size": bench.shape.rows,
        "prompts": [f"The {number}th of these prompts is" for number in range(16)],
        "prompt_batch_size": 16,
    }
    trainer = {
        "accelerator": "gpu" if bench.device == "cuda" else "cpu",
        "devices": 1,
        "limit_val_batches": batches,
        "enable_progress_bar": False,
        "callbacks": [{"class_path": "benchmarks.start_to_finish.Clock"}],
    }
    return {"model": model, "data": data, "trainer": trainer, "run": {"save_dir": folder}}
