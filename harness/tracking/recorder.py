"""The run recorder: it follows the trainer, and hands what was measured to the run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from harness.base import signals
from harness.base.files import write_text
from harness.base.processes import EndedElsewhere, Processes
from harness.errors import ConfigError
from harness.evaluation.experiment import OutlierExperiment
from harness.evaluation.step import StepResult
from harness.outliers.variants import NAME
from harness.results.schema import Results, RunRecord
from harness.tracking.ending import all_know, may_end
from harness.tracking.packages import check_packages, versions
from harness.tracking.result_files import ResultFiles
from harness.tracking.run import Run
from harness.tracking.run_folder import RunFolder, next_version
from harness.tracking.tables import FlowTables
from harness.tracking.writer import Writer


class RunRecorder(Callback):
    """Makes the run folder and writes what the run measured into it.

    Args:
        name: Name of the experiment, a folder below save_dir. Null: the last part of the model's
            name, or the model_type of model.architecture.
        save_dir: Folder of all runs.
        resume: Folder of a run that was interrupted, or is to be made longer: it goes on there, and
            what it has measured is not measured again. Null: a new folder.

    Attributes:
        run: The run, once its folder is there.
        is_agreed: Whether all processes know why the run has ended.
    """

    def __init__(
        self, name: str | None = None, save_dir: str = "logs", resume: str | None = None
    ) -> None:
        if name is not None and not NAME.fullmatch(name):
            reason = "must be the name of one folder: letters, digits, dot, dash, underscore"
            raise ConfigError("run.name", name, reason)
        self.name = name
        self.save_dir = save_dir
        self.resume = resume
        self.is_agreed = False
        self.run: Run | None = None
        self._processes: Processes | None = None
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
        if self.run is not None:
            return
        self._began = time.monotonic()
        self._started = datetime.now().astimezone()
        experiment = OutlierExperiment.of(pl_module)
        self._processes = processes = experiment.join()
        signals.stop_hearing()
        check_packages(processes)
        name = self.name or experiment.source.title
        # Disks of other nodes may hold runs that this one does not see.
        least = max(processes.meet(next_version(self.save_dir, name)))
        folder = self._open(name, least) if processes.is_first else None
        path = processes.share(folder.path if folder else None)
        assert path is not None  # what the first process shares
        self.run = Run(
            folder or RunFolder(path),
            self._writers,
            self._config,
            processes,
            resumed=self.resume is not None,
        )
        if processes.is_first:
            write_text(self.run.folder.journal / "command", f"{self._stage}\n")
        experiment.recall = self.run.recall
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((path / "checkpoints").resolve())

    def _open(self, name: str, least: int) -> RunFolder:
        if self.resume is None:
            return RunFolder.new(self.save_dir, name, least)
        folder = RunFolder(Path(self.resume))
        folder.take()
        return folder

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keeps the folder of an interrupted run; removes that of a refused one."""
        signals.hold(False)
        if self._processes is not None:
            self.is_agreed = all_know(self._processes, exception)
        if self.run is None:
            return
        refused = isinstance(exception, ConfigError | MisconfigurationException)
        refused |= isinstance(exception, EndedElsewhere) and exception.status == 2
        record = self._record(trainer, pl_module) if self.is_agreed and self.run.has_begun else None
        self.run.stop(record, refused=refused)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Completes the files."""
        if self.run is not None:
            self.run.close()

    # -- a measurement -----------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Marks the run as running, while outliers are looked for."""
        signals.reclaim()
        # One that is resumed may be refused yet, and is then what it was.
        if self.run is not None and self.run.processes.is_first and self.resume is None:
            self.run.folder.set_status("running")

    on_fit_start = on_validation_start
    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a measurement, now that it is known what is measured."""
        if self.run is not None and self._stage != "fit":
            self.run.begin(OutlierExperiment.of(pl_module).design)
            signals.hold(True)

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
        """Keeps what a batch gave, and ends the run there if a signal asks for it."""
        if self.run is None or trainer.sanity_checking:
            return
        if self._stage != "fit":
            self.run.step(outputs["result"])
            return
        # A training that has made all its steps would not be gone on with.
        self.run.meet("validation", may_end=trainer.global_step != trainer.max_steps)

    on_test_batch_end = on_validation_batch_end
    on_predict_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the results of `validate`, `test` and `predict`."""
        if self.run is None or self._stage == "fit":
            return
        signals.hold(False)
        self.run.finish(self._record(trainer, pl_module))

    on_test_end = on_validation_end
    on_predict_end = on_validation_end

    def _record(self, trainer: Trainer, pl_module: LightningModule) -> RunRecord:
        assert self.run is not None
        resampling = OutlierExperiment.of(pl_module).design.resampling
        return RunRecord(
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
            versions=versions(),
        )

    # -- a training --------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to keep what is observed of a training."""
        self._watched = None
        signals.reclaim()
        if self.run is not None:
            design = OutlierExperiment.of(pl_module).design
            self.run.begin_training(design, trainer.global_step)
            signals.hold(True)

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
            self.run.observe(observed)
        # Until the optimiser has moved, gradients of further batches are to be added.
        if self._watched is not None and trainer.global_step != self._watched:
            if self.run.processes.is_first:
                self.run.weights(self._watched, OutlierExperiment.of(pl_module).weights())
            self._watched = None
        try:
            self.run.meet("training", may_end=may_end(trainer, batch_idx))
        except signals.Interrupted:
            trainer._logger_connector.update_train_step_metrics()  # what Lightning does after this
            raise

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Has everything on the disk that comes before a checkpoint."""
        if self.run is not None:
            self.run.flush()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Marks the training as complete."""
        signals.hold(False)
        if self.run is not None and self.run.processes.is_first:
            self.run.folder.set_status("complete")
