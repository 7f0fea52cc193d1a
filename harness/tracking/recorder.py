"""The run recorder: from the first batch to the files of a run folder."""

from __future__ import annotations

import platform
import time
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from harness import __version__, report
from harness.base.files import write_text
from harness.base.stages import stage
from harness.data import PromptBatch, WindowBatch
from harness.errors import ConfigError
from harness.evaluation.records import manifest, results_of
from harness.evaluation.texts import text_rows
from harness.outliers import patchfile
from harness.outliers.variants import NAME, ORIGINAL, patch_path
from harness.results import schema
from harness.results.codec import to_json
from harness.tracking.activations import ActivationStatistics
from harness.tracking.curves import final_metrics, hyperparameters, step_scalars
from harness.tracking.logger import run_loggers
from harness.tracking.run_folder import RunFolder, Status

if TYPE_CHECKING:
    from harness.data import Corpus
    from harness.evaluation.experiment import OutlierExperiment


class RunRecorder(Callback):
    """Makes the run folder and writes what the run measured into it.

    Args:
        name: Name of the experiment, a folder below save_dir. Null: the last part of the model's
            name, or the model_type of model.architecture.
        save_dir: Folder of all runs.
    """

    def __init__(self, name: str | None = None, save_dir: str = "logs") -> None:
        if name is not None and not NAME.fullmatch(name):
            reason = "must be the name of one folder: letters, digits, dot, dash, underscore"
            raise ConfigError("run.name", name, reason)
        self.name = name
        self.save_dir = save_dir
        self.folder: RunFolder | None = None
        self.results: schema.Results | None = None
        self.rows: list[dict[str, Any]] = []
        self._config: str | None = None
        self._seed: int | None = None
        self._arguments: str | None = None
        self._began = time.monotonic()
        self._started = datetime.now().astimezone()

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
        """Makes the folder, and points logger and checkpoints at it."""
        if self.folder is not None or not trainer.is_global_zero:
            return
        self._began = time.monotonic()
        self._started = datetime.now().astimezone()
        experiment: OutlierExperiment = pl_module  # type: ignore[assignment]
        name = self.name or experiment.source.title
        self.folder = RunFolder(self.save_dir, name)
        if self._config is not None:
            write_text(self.folder.path / "config.yaml", self._config)
        for logger in run_loggers(trainer):
            logger.attach(self.folder)
        if statistics := _statistics(trainer):
            statistics.attach(self.folder)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.folder.path / "checkpoints")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Marks the run as running."""
        self._set_status("running")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Marks the run as running; steps in TensorBoard go on from those that there are."""
        self._set_status("running")
        if trainer.state.fn != "fit":
            for logger in run_loggers(trainer):
                logger.begin()

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Marks the training as complete."""
        self._set_status("complete")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keeps the folder of an interrupted run; removes that of a refused one."""
        if self.folder is None:
            return
        if isinstance(exception, ConfigError | MisconfigurationException):
            self.folder.discard()
        else:
            self._set_status("interrupted")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Closes the TensorBoard files."""
        for logger in run_loggers(trainer):
            logger.close()

    # -- the results -------------------------------------------------------------------------

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: WindowBatch | PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the scores of a batch to TensorBoard."""
        measured = isinstance(batch, WindowBatch) and batch.number >= 0
        if trainer.state.fn == "fit" or not measured:
            return
        experiment: OutlierExperiment = pl_module  # type: ignore[assignment]
        variants = {ORIGINAL, *(variant.name for variant in experiment.variants)}
        for name, values in step_scalars(outputs, ORIGINAL).items():
            if name in variants:  # the noise floor has no folder
                for logger in run_loggers(trainer):
                    logger.scalars(name, values, batch.number)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the results of `validate`, `test` and `predict`."""
        if trainer.state.fn in (None, "fit") or self.folder is None:
            return
        experiment: OutlierExperiment = pl_module  # type: ignore[assignment]
        command = trainer.state.fn.value
        corpus = None if command == "predict" else trainer.datamodule.corpus(command)  # type: ignore[attr-defined]
        windows = len(experiment.tallies[ORIGINAL].rows)
        prompts = len(experiment.texts[ORIGINAL])
        run = schema.RunRecord(
            name=self.folder.name,
            version=self.folder.version,
            command=command,
            seed=self._seed,
            world_size=trainer.world_size,
            precision=str(trainer.precision),
            duration_seconds=round(time.monotonic() - self._began, 3),
            partial=prompts < len(self._prompts(trainer))
            or (corpus is not None and windows < corpus.record.windows),
            confidence=experiment.confidence,
            resamples=experiment.resamples,
            arguments=self._arguments,
            started=self._started.isoformat(timespec="seconds"),
            versions=_versions(),
        )
        statistics = _statistics(trainer)
        with stage("intervals and tests"):
            self.results = results_of(
                experiment,
                corpus,
                run,
                statistics.totals if statistics else {},
                statistics.settings if statistics else None,
            )
        self._save(self.results, experiment, corpus)
        self._save_texts(trainer, experiment)
        self._save_patches(experiment)
        records = self.results.variants | self.results.controls
        # Of the controls, `predict` looks at the first alone.
        looked_at = {n: r for n, r in records.items() if r.likelihood or r.generation}
        for logger in run_loggers(trainer):
            for name, record in looked_at.items():
                parameters = hyperparameters(name, record, self.results)
                logger.row(name, parameters, final_metrics(record))
        self._set_status("complete")

    on_test_end = on_validation_end
    on_predict_end = on_validation_end

    def _save_texts(self, trainer: Trainer, experiment: OutlierExperiment) -> None:
        prompts = self._prompts(trainer)
        self.rows = list(text_rows(experiment.texts, prompts, ORIGINAL, experiment.decode))
        if self.folder is None or not self.rows:
            return
        report.save_generations(self.folder.path / "generations.jsonl", self.rows)
        for logger in run_loggers(trainer):
            logger.text(ORIGINAL, "generations/side_by_side", report.html_table(self.rows))

    def _prompts(self, trainer: Trainer) -> list[str]:
        assert trainer.state.fn is not None
        texts: list[str] = trainer.datamodule.prompt_texts(trainer.state.fn.value)  # type: ignore[attr-defined]
        return texts

    def _save(
        self, measured: schema.Results, experiment: OutlierExperiment, corpus: Corpus | None
    ) -> None:
        assert self.folder is not None
        folder = self.folder.path
        write_text(folder / "results.json", to_json(measured))
        write_text(folder / "report.md", report.markdown(measured))
        report.save_variants(folder / "variants.csv", measured)
        if corpus is not None:
            names = [*measured.variants, *measured.controls]
            path = folder / "documents.parquet"
            report.save_documents(path, experiment.tallies, corpus.units, names)

    def _save_patches(self, experiment: OutlierExperiment) -> None:
        if self.folder is None:
            return
        for variant in experiment.variants:
            relative = patch_path(variant)
            if relative is not None:
                path = self.folder.path / relative
                path.parent.mkdir(exist_ok=True)
                patchfile.save(variant.patch, path, manifest(experiment, variant))

    def _set_status(self, status: Status) -> None:
        if self.folder is not None:
            self.folder.set_status(status)


def _versions() -> dict[str, str]:
    libraries = ("torch", "transformers", "lightning", "datasets")
    return {
        "harness": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def _statistics(trainer: Trainer) -> ActivationStatistics | None:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = (callback for callback in callbacks if isinstance(callback, ActivationStatistics))
    return next(found, None)
