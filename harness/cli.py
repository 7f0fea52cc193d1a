"""The command line: LightningCLI with the harness's model, data and defaults."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, instantiate_class
from lightning.pytorch.utilities.exceptions import SIGTERMException

from harness import report
from harness.console import interrupted, quiet
from harness.data import OPENINGS, TextDataModule
from harness.errors import ConfigError
from harness.experiment import OutlierExperiment
from harness.given import config_files, make_absolute, values_given
from harness.lightning_keys import check_run
from harness.refusal import check_file, one_line
from harness.tracking import ActivationStatistics, HuggingFaceCheckpoint, RunRecorder
from harness.tracking.progress import EvaluationProgress, TrainingProgress

# Plain dicts: defaults that are objects could not be written to config.yaml and replayed.
DEFAULTS: dict[str, Any] = {
    "model.variants": {
        "zeroed": {"criterion": {"class_path": "harness.outliers.AbsoluteThreshold"}},
        "sigma5": {
            "criterion": {
                "class_path": "harness.outliers.SigmaThreshold",
                "init_args": {"sigmas": 5.0},
            },
            "scope": {"matrices_only": True},
            "controls": 3,
        },
    },
    "model.generation": {"max_new_tokens": 40},
    "data.prompts": OPENINGS,
    "trainer.logger": {"class_path": "harness.tracking.RunLogger"},
}
TRAINER_DEFAULTS = {"use_distributed_sampler": False, "enable_model_summary": False}
_GROUPS = ("trainer", "model", "data", "run", "activations", "activations.sites")


class Parser(LightningArgumentParser):
    """A parser that refuses a wrong argument in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the line and exits with status 2."""
        keys = [action.dest for action in self._actions]
        raise SystemExit(refuse(one_line(message, values_given(sys.argv[1:]), keys))) from ex


class HarnessCLI(LightningCLI):
    """LightningCLI whose commands measure outliers."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Commands, and the arguments of the trainer's method that are not options."""
        given = {"model", "dataloaders", "datamodule", "weights_only"}
        unused = {"verbose", "ckpt_path"}
        return {
            "fit": given | {"train_dataloaders", "val_dataloaders"},
            "validate": given | unused,
            "test": given | unused,
            "predict": given | unused | {"return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run recorder, and links the model's tokenizer to the data."""
        parser.add_lightning_class_args(RunRecorder, "run")
        parser.add_lightning_class_args(ActivationStatistics, "activations")
        parser.link_arguments("model.source", "data.source", apply_on="instantiate")
        parser.set_defaults(DEFAULTS)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses, and refuses what Lightning would take and then fail on, or do nothing."""
        super().parse_arguments(parser, args)
        check_run(self.config.subcommand, self.config[self.config.subcommand])

    def before_instantiate_classes(self) -> None:
        """Makes paths absolute, and refuses wrong criteria under their full key."""
        config = self.config[self.subcommand]
        make_absolute(config)
        for name, variant in (config.model.variants or {}).items():
            for part in ("criterion", "edit"):
                _construct(f"model.variants.{name}.{part}", variant[part])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer; what it refuses is refused as any other input."""
        own = self._get(self.config_init, "trainer").callbacks
        own = own if isinstance(own, list) else [own]
        chosen = any(isinstance(callback, ProgressBar) for callback in own)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise _refused_by_trainer(error) from error
        if not chosen:
            _show_progress(trainer, training=self.subcommand == "fit")
        return trainer

    def after_instantiate_classes(self) -> None:
        """Gives the recorder what only the command line knows."""
        config = self.config[self.subcommand]
        text = self._parser(self.subcommand).dump(config, skip_none=False)
        seed = config.seed_everything
        self.recorder.describe(text, seed if isinstance(seed, int) else None)

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Trains; a checkpoint to go on from is read without running any code in it."""
        with self._interruptible():
            self.trainer.fit(model, weights_only=True, **kwargs)

    def validate(self, model: LightningModule, **kwargs: Any) -> None:
        """Measures on the validation split."""
        with self._interruptible():
            self.trainer.validate(model, **kwargs)

    def test(self, model: LightningModule, **kwargs: Any) -> None:
        """Measures on the test split."""
        with self._interruptible():
            self.trainer.test(model, **kwargs)

    def predict(self, model: LightningModule, **kwargs: Any) -> None:
        """Generates; what was written is kept by the experiment, not returned."""
        with self._interruptible():
            self.trainer.predict(model, return_predictions=False, **kwargs)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Gives the exits that Lightning makes of signals their status, and a word to the user."""
        try:
            yield
        except SystemExit as stop:
            status = 143 if isinstance(stop, SIGTERMException) else 130
            if status == 130 and not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            if self.trainer.is_global_zero:
                folder = self.recorder.folder
                interrupted(folder and folder.path)
            raise SystemExit(status) from None
        except MisconfigurationException as error:
            raise _refused_by_trainer(error) from error

    def before_fit(self) -> None:
        """Training saves its checkpoints in the layout of Hugging Face too."""
        self._callbacks.append(HuggingFaceCheckpoint(self.recorder))

    def after_validate(self) -> None:
        """Shows the tables and a few texts, and says where everything is."""
        self._show(texts=2)
        self._say_where("report.md")

    after_test = after_validate

    def after_predict(self) -> None:
        """Shows a few texts more, and says where all are."""
        self._show(texts=3)
        self._say_where("generations.jsonl")

    def after_fit(self) -> None:
        """Says where the checkpoints are."""
        self._say_where("checkpoints")

    def _show(self, texts: int) -> None:
        if self.recorder.results is not None:
            report.show(self.recorder.results)
            report.show_side_by_side(self.recorder.rows, most=texts)

    @property
    def recorder(self) -> RunRecorder:
        """The callback that owns the run folder."""
        return next(cb for cb in self._callbacks if isinstance(cb, RunRecorder))

    @property
    def _callbacks(self) -> list[Callback]:
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return callbacks

    def _say_where(self, name: str) -> None:
        if self.recorder.folder is not None:
            print(f"\n{name.partition('.')[0]}: {self.recorder.folder.path / name}")


def main() -> int:
    """Runs the command line of this process.

    Returns:
        Exit status: 0 when done, 2 for input that is refused, 130 after Ctrl-C.

    Raises:
        SystemExit: With status 130 or 143 when a signal ends the run.
    """
    quiet()
    argv = sys.argv[1:]
    try:
        if argv and argv[0].partition("=")[0] in ("-c", "--config"):
            reason = "belongs after the command: python -m harness validate -c FILE"
            raise ConfigError("config", " ".join(argv[:2]), reason)
        for file in config_files(argv):
            check_file(file, _GROUPS)
        HarnessCLI(
            OutlierExperiment,
            TextDataModule,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=42,
            parser_class=Parser,
            parser_kwargs={"description": "Measures what the outliers of a language model do."},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except ConfigError as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        return interrupted()
    return 0


def refuse(line: str) -> int:
    """Says on stderr what is refused, and returns the exit status for it."""
    print(f"refused: {line}", file=sys.stderr)
    return 2


def _construct(key: str, spec: Namespace | None) -> None:
    # Built once for its checks alone: an error inside jsonargparse would not name the variant.
    if spec is None:
        return
    try:
        instantiate_class((), spec.as_dict())
    except ConfigError as error:
        raise error.under(key) from None


def _refused_by_trainer(error: Exception) -> ConfigError:
    given = {k: value for k, value in values_given(sys.argv[1:]).items() if "trainer." in k}
    return ConfigError("trainer", given, " ".join(str(error).split()))


def _show_progress(trainer: Trainer, *, training: bool) -> None:
    """Puts our progress bar in the place of Lightning's; where there is none, there stays none."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for place, callback in enumerate(callbacks):
        if isinstance(callback, ProgressBar):
            callbacks[place] = TrainingProgress() if training else EvaluationProgress()
