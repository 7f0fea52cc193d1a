"""The commands: LightningCLI with the harness's model, data and defaults."""

from __future__ import annotations

import os
import shlex
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, NoReturn

import torch
from jsonargparse import ArgumentError, set_loader
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from yaml import YAMLError

from harness import report
from harness.base import signals
from harness.base.console import INTERRUPTED, be_silent, interrupted, refused, speaks, stopped
from harness.base.processes import EndedElsewhere, LostError
from harness.cli.defaults import DEFAULTS
from harness.cli.faults import told
from harness.cli.launch import Launch
from harness.cli.lightning_keys import check_run, processes
from harness.cli.observer import observe_patiently
from harness.cli.page import ABOUT, COMMANDS
from harness.cli.paths import make_absolute
from harness.cli.reading import load
from harness.cli.refusal import in_full, refusal
from harness.data import TextDataModule
from harness.errors import ConfigError
from harness.evaluation.experiment import OutlierExperiment
from harness.probes.settings import ActivationStatistics
from harness.tracking import HuggingFaceCheckpoint, RunRecorder
from harness.tracking.progress import EvaluationProgress, TrainingProgress
from harness.tracking.writer import Writer

set_loader("harness", load, (YAMLError,))

_FAREWELL_SECONDS = 20


class HarnessCLI(LightningCLI):
    """LightningCLI whose commands measure outliers.

    Args:
        given: Dotted keys and values of the command line and of the files that it names.
        launch: How this process was started.
        kwargs: Arguments of LightningCLI.
    """

    def __init__(self, given: Sequence[tuple[str, Any]], launch: Launch, **kwargs: Any) -> None:
        self.given = dict(given)
        self.launch = launch
        super().__init__(OutlierExperiment, TextDataModule, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Commands, and the arguments of the trainer's method that are not options."""
        own = {"weights_only", "verbose", "return_predictions"}
        return {
            name: given | own | (set() if name == "fit" else {"ckpt_path"})
            for name, given in LightningCLI.subcommands().items()
        }

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the groups of keys, the harness's own first: help shows them in this order."""
        # `typing` keeps a union in the order in which any library wrote it first, and jsonargparse
        # tries types in that order: one batch would be a float, which means a share, and so all.
        hints = Trainer.__init__.__annotations__
        number = int | float | None
        hints.update({name: number for name, hint in hints.items() if hint == number})
        parser.add_lightning_class_args(RunRecorder, "run")
        parser.add_lightning_class_args(OutlierExperiment, "model")
        parser.add_lightning_class_args(TextDataModule, "data")
        parser.add_class_arguments(ActivationStatistics, "activations")
        parser.add_lightning_class_args(Trainer, "trainer")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what one part needs of another, and sets the defaults."""
        parser.link_arguments("activations", "model.activations", apply_on="instantiate")
        parser.link_arguments("model.source", "data.source", apply_on="instantiate")
        parser.set_defaults(DEFAULTS)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses, and refuses what Lightning would take and then fail on, or do nothing."""
        assert isinstance(args, list)
        self.argv = args
        self.config = parser.parse_args(args)
        check_run(self.config.subcommand, self.config[self.config.subcommand], self.launch)

    def before_instantiate_classes(self) -> None:
        """Makes paths absolute, and leaves out the variants that are null."""
        config = self.config[self.subcommand]
        variants = config.model.variants or {}
        for name in [name for name, variant in variants.items() if variant is None]:
            del variants[name]  # left out
        make_absolute(config)

    def instantiate_classes(self) -> None:
        """Makes the objects; what a class of a variant refuses, it refuses under its full key."""
        try:
            super().instantiate_classes()
        except (ConfigError, ValueError) as error:
            config = self.config[self.subcommand].as_dict()
            raise in_full(error, config["model"]["variants"] or {}) or error from None

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer; what it refuses is refused as any other input."""
        asked, trains = self._get(self.config_init, "trainer"), self.subcommand == "fit"
        own = asked.callbacks if isinstance(asked.callbacks, list) else [asked.callbacks]
        ours: list[Callback] = [HuggingFaceCheckpoint(self.recorder)] if trains else []
        shown = asked.enable_progress_bar is not False and not asked.barebones
        if shown and not any(isinstance(callback, ProgressBar) for callback in own):
            progress = TrainingProgress() if trains else EvaluationProgress()
            ours.append(progress)
            if isinstance(progress, Writer):
                self.recorder.write_to(progress)
        self.trainer_defaults["callbacks"] = ours
        if asked.plugins is None:
            kwargs["plugins"] = _environment(self.launch)
        kwargs |= processes(asked, self.launch)
        observe_patiently()
        try:
            trainer: Trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            raise self._refused_by_trainer(error) from error
        if isinstance(trainer.accelerator, CPUAccelerator):
            # Lightning would give each of several processes fewer threads, and other last bits.
            os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        return trainer

    def after_instantiate_classes(self) -> None:
        """Gives the recorder what only the command line knows."""
        for logger in self.trainer.loggers:
            if isinstance(logger, Writer):
                self.recorder.write_to(logger)
        config = self.config[self.subcommand].clone()
        config.run.resume = None  # config.yaml repeats the run, wherever it was resumed
        text = self._parser(self.subcommand).dump(config, skip_none=False)
        seed = config.seed_everything
        typed = shlex.join(["python", "-m", "harness", *self.argv])
        self.recorder.describe(text, seed if isinstance(seed, int) else None, typed)

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Trains; a checkpoint to go on from is read without running any code in it."""
        self.trainer.fit(model, weights_only=True, **kwargs)

    def predict(self, model: LightningModule, **kwargs: Any) -> None:
        """Generates; what was written is kept by the experiment, not returned."""
        self.trainer.predict(model, return_predictions=False, **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs a command and shows what was found, also where it could not be written.

        Signals, and memory or disk that ran out, get their status and a word to the user.
        """
        if self.trainer.world_size > 1:
            signals.hear(lambda: _end_children(self.trainer, wait=False))  # until they have met
        try:
            super()._run_subcommand(subcommand)
        except BaseException as error:
            self._end(error)
        finally:
            if self.recorder.results is not None:
                report.show(self.recorder.results)
        report.show_side_by_side(self.recorder.rows, most=3 if subcommand == "predict" else 2)
        if self._folder is not None and speaks():
            report.show_next_steps(self._folder, subcommand)

    def _end(self, error: BaseException) -> NoReturn:
        """Says why a run could not go on, and leaves no process behind.

        Where all processes know of the end the first tells of it, and the others have done what
        they had to: a launcher would end the first, which has results to write, if they failed.
        """
        if not speaks() and (self.recorder.is_agreed or isinstance(error, EndedElsewhere)):
            if not isinstance(error, SystemExit | ConfigError | EndedElsewhere):
                traceback.print_exception(error)
            raise SystemExit(0) from None
        _end_children(self.trainer, wait=self.recorder.is_agreed)
        if isinstance(error, SystemExit) and error.code == INTERRUPTED:
            raise SystemExit(interrupted(self._folder)) from None
        if isinstance(error, MisconfigurationException):
            raise self._refused_by_trainer(error) from error
        if self.recorder.run is not None or not isinstance(error, ConfigError):
            be_silent(False)  # what the others do not know, this process has to say
        if isinstance(error, EndedElsewhere) and error.status == 2:
            raise SystemExit(refused(str(error))) from None
        if isinstance(error, EndedElsewhere | LostError):
            raise SystemExit(stopped(str(error))) from None
        line = None if isinstance(error, ConfigError) else told(error, self._folder)
        if line is not None:
            raise SystemExit(stopped(line)) from error
        raise error

    @property
    def recorder(self) -> RunRecorder:
        """The callback that owns the run folder."""
        recorder: RunRecorder = self._get(self.config_init, "run")
        return recorder

    @property
    def _folder(self) -> Path | None:
        folder = self.recorder.folder
        return None if folder is None else folder.path

    def _refused_by_trainer(self, error: Exception) -> ConfigError:
        given = {key: value for key, value in self.given.items() if key.startswith("trainer.")}
        return ConfigError("trainer", given, " ".join(str(error).split()))


def _environment(launch: Launch) -> ClusterEnvironment:
    """How Lightning learns of the other processes: what is told is not for it to guess."""
    if launch.by == "torchrun":
        return TorchElasticEnvironment()
    if launch.by == "srun":
        return SLURMEnvironment(auto_requeue=False)
    return LightningEnvironment()


def _end_children(trainer: Trainer, *, wait: bool) -> None:
    """Ends the processes that the trainer has started.

    Args:
        trainer: The trainer.
        wait: Whether they know of the end, and are given time for it.
    """
    for child in getattr(trainer.strategy.launcher, "procs", []):
        with suppress(TimeoutExpired):
            child.wait(_FAREWELL_SECONDS if wait else 0)
        child.kill()
        child.wait()


def run(argv: Sequence[str], given: Sequence[tuple[str, Any]], launch: Launch) -> int:
    """Runs a command.

    Args:
        argv: The command line.
        given: Dotted keys and values of it and of the files that it names.
        launch: How this process was started.

    Returns:
        Exit status: 0 when done, 2 for what the parser refuses.

    Raises:
        ConfigError: For any other input that is refused.
        SystemExit: With status 143 when a signal ends the run, 1 where memory or disk ran out.
    """
    shared = {"parser_mode": "harness", "exit_on_error": False}
    described = {
        name: shared
        | {
            "usage": f"python -m harness {name} [--KEY VALUE ...] [-c FILE ...]",
            "description": ABOUT.format(says=says),
        }
        for name, says in COMMANDS.items()
    }
    try:
        HarnessCLI(
            given,
            launch,
            save_config_callback=None,
            seed_everything_default=42,
            parser_kwargs=described | shared,
            args=list(argv),
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except ArgumentError as error:
        return refused(refusal(str(error), given))
    return 0
