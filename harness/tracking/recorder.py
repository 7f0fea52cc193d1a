"""The run recorder: it follows the trainer, and hands what was measured to the run."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from harness import __version__
from harness.errors import ConfigError
from harness.evaluation.experiment import OutlierExperiment
from harness.evaluation.step import StepResult
from harness.outliers.variants import NAME
from harness.results.schema import Results, RunRecord
from harness.tracking.result_files import ResultFiles
from harness.tracking.run import Run
from harness.tracking.run_folder import RunFolder
from harness.tracking.tables import FlowTables
from harness.tracking.writer import Writer


class RunRecorder(Callback):
    """Makes the run folder and writes what the run measured into it.

    Args:
        name: Name of the experiment, a folder below save_dir. Null: the last part of the model's
            name, or the model_type of model.architecture.
        save_dir: Folder of all runs.

    Attributes:
        run: The run, once its folder is there; None before, and in all processes but the first.
    """

    def __init__(self, name: str | None = None, save_dir: str = "logs") -> None:
        if name is not None and not NAME.fullmatch(name):
            reason = "must be the name of one folder: letters, digits, dot, dash, underscore"
            raise ConfigError("run.name", name, reason)
        self.name = name
        self.save_dir = save_dir
        self.run: Run | None = None
        self._files = ResultFiles()
        self._writers: list[Writer] = [FlowTables(), self._files]
        self._config: str | None = None
        self._seed: int | None = None
        self._arguments: str | None = None
        self._stage = ""
        self._watched: int | None = None

    @property
    def folder(self) -> RunFolder | None:
        """The folder of the run."""
        return self.run.folder if self.run is not None else None

    @property
    def results(self) -> Results | None:
        """What was measured last, also where it could not be written."""
        return self.run.results if self.run is not None else None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The texts that were written, as they stand in ``generations.jsonl``."""
        return self._files.rows

    def write_to(self, writer: Writer) -> None:
        """Adds a writer, such as a `RunLogger`, which is a logger of the trainer as well."""
        self._writers.append(writer)

    def describe(self, config: str, seed: int | None, arguments: str | None = None) -> None:
        """Gives the recorder what only the command line knows.

        Args:
            config: Text of config.yaml.
            seed: Value of ``seed_everything``; None where nothing was seeded.
            arguments: The command as it was typed.
        """
        self._config = config
        self._seed = seed
        self._arguments = arguments

    # -- the folder --------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Makes the folder, and points checkpoints at it."""
        self._stage = str(getattr(stage, "value", stage))
        if self.run is not None or not trainer.is_global_zero:
            return
        self._began = time.monotonic()
        self._started = datetime.now().astimezone()
        name = self.name or OutlierExperiment.of(pl_module).source.title
        self.run = Run(RunFolder(self.save_dir, name), self._writers, self._config)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run.folder.path / "checkpoints")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keeps the folder of an interrupted run; removes that of a refused one."""
        if self.run is None:
            return
        self.run.stop(refused=isinstance(exception, ConfigError | MisconfigurationException))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Completes the files."""
        if self.run is not None:
            self.run.close()

    # -- a measurement -----------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Marks the run as running, while outliers are looked for."""
        if self.run is not None:
            self.run.folder.set_status("running")

    on_fit_start = on_validation_start
    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a measurement, now that it is known what is measured."""
        if self.run is not None and self._stage != "fit":
            self.run.begin(OutlierExperiment.of(pl_module).design)

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps what a batch gave."""
        if self.run is not None and self._stage != "fit":
            self.run.step(outputs["result"])

    on_test_batch_end = on_validation_batch_end
    on_predict_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the results of `validate`, `test` and `predict`."""
        if self.run is None or self._stage == "fit":
            return
        resampling = OutlierExperiment.of(pl_module).design.resampling
        self.run.finish(
            RunRecord(
                name=self.run.folder.name,
                version=self.run.folder.version,
                command=self._stage,
                seed=self._seed,
                world_size=trainer.world_size,
                precision=str(trainer.precision),
                duration_seconds=round(time.monotonic() - self._began, 3),
                partial=False,
                confidence=resampling.confidence,
                resamples=resampling.resamples,
                arguments=self._arguments,
                started=self._started.isoformat(timespec="seconds"),
                versions=_versions(),
            )
        )

    on_test_end = on_validation_end
    on_predict_end = on_validation_end

    # -- a training --------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to keep what is observed of a training."""
        self._watched = None
        if self.run is not None:
            self.run.begin(OutlierExperiment.of(pl_module).design, measures=False)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keeps what was observed in a step, and what the weights are like after it."""
        if self.run is None:
            return
        observed = outputs.get("result") if isinstance(outputs, Mapping) else None
        if isinstance(observed, StepResult):
            self._watched = observed.number
            self.run.step(observed)
        # Until the optimiser has moved, gradients of further batches are to be added.
        if self._watched is not None and trainer.global_step != self._watched:
            self.run.weights(self._watched, OutlierExperiment.of(pl_module).weights())
            self._watched = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Marks the training as complete."""
        if self.run is not None:
            self.run.folder.set_status("complete")


def _versions() -> dict[str, str]:
    libraries = ("torch", "transformers", "lightning", "datasets")
    return {
        "harness": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }
