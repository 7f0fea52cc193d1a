"""Runs of the harness in this process, as one who uses it as a library would start them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from harness.base.console import quiet
from harness.data import TextDataModule
from harness.evaluation.experiment import OutlierExperiment
from harness.evaluation.measurement import Totals
from harness.results.schema import Results
from harness.tracking import RunRecorder
from harness.tracking.writer import Writer

QUICK = {
    "accelerator": "cpu",
    "logger": False,
    "use_distributed_sampler": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass
class Ran:
    """A run that has come to its end."""

    experiment: OutlierExperiment
    data: TextDataModule
    trainer: Trainer
    recorder: RunRecorder

    @property
    def results(self) -> Results:
        assert self.recorder.results is not None
        return self.recorder.results

    @property
    def totals(self) -> Totals:
        assert self.recorder.run is not None
        assert self.recorder.run.totals is not None
        return self.recorder.run.totals

    @property
    def folder(self) -> Path:
        assert self.recorder.folder is not None
        return self.recorder.folder.path


def run(
    pretrained: Path | str,
    dataset: Path | str,
    logs: Path,
    *,
    command: str = "validate",
    model: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    callbacks: tuple[Callback, ...] = (),
    recorder: RunRecorder | None = None,
    **data: Any,
) -> Ran:
    """Runs one command.

    Args:
        pretrained: Folder of the model.
        dataset: File of the text.
        logs: Folder of all runs.
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        model: Further arguments of the experiment.
        trainer: Further arguments of the trainer.
        callbacks: Beside the recorder.
        recorder: In place of a new one.
        data: Further arguments of the data module.
    """
    quiet()
    recorder = recorder or RunRecorder(save_dir=str(logs))
    logger = (trainer or {}).get("logger")
    if isinstance(logger, Writer):
        recorder.write_to(logger)
    experiment = OutlierExperiment(str(pretrained), **({"resamples": 100} | (model or {})))
    module = TextDataModule(experiment.source, str(dataset), **data)
    options = QUICK | {"callbacks": [recorder, *callbacks]} | (trainer or {})
    ran = Ran(experiment, module, Trainer(**options), recorder)
    again(ran, command)
    return ran


def again(ran: Ran, command: str = "validate") -> None:
    """Runs a command with the objects of a run that there was."""
    quiet()
    arguments = {"verbose": False} if command in ("validate", "test") else {}
    getattr(ran.trainer, command)(ran.experiment, ran.data, **arguments)
