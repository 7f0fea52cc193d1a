"""The command line: LightningCLI with the harness's model, data and defaults."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, instantiate_class

from harness import report
from harness.data import TextDataModule, absolute_paths
from harness.errors import ConfigError
from harness.experiment import OutlierExperiment
from harness.refusal import arguments_given, flatten, one_line
from harness.tracking import HuggingFaceCheckpoint, RunRecorder

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
    "trainer.logger": {"class_path": "harness.tracking.RunLogger"},
}
TRAINER_DEFAULTS = {"use_distributed_sampler": False, "enable_model_summary": False}


class Parser(LightningArgumentParser):
    """A parser that refuses a wrong argument in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the line and exits with status 2."""
        raise SystemExit(refuse(one_line(message, _given(sys.argv[1:])))) from ex


class HarnessCLI(LightningCLI):
    """LightningCLI whose commands measure outliers."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Commands, and the arguments of the trainer's method that are not options."""
        skip = {"model", "dataloaders", "datamodule"}
        return {
            "fit": skip | {"train_dataloaders", "val_dataloaders"},
            "validate": skip | {"verbose"},
            "test": skip | {"verbose"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run recorder, and links the model's tokenizer to the data."""
        parser.add_lightning_class_args(RunRecorder, "run")
        parser.link_arguments("model.source", "data.source", apply_on="instantiate")
        parser.set_defaults(DEFAULTS)

    def before_instantiate_classes(self) -> None:
        """Makes paths absolute, and refuses wrong criteria under their full key."""
        config = self.config[self.subcommand]
        _make_absolute(config)
        checkpoint = config.ckpt_path
        if checkpoint not in (None, "last", "best") and not Path(checkpoint).is_file():
            raise ConfigError("ckpt_path", checkpoint, "no such file")
        for name, variant in (config.model.variants or {}).items():
            for part in ("criterion", "edit"):
                _construct(f"model.variants.{name}.{part}", variant[part])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer; what it refuses is refused as any other input."""
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            given = {key: value for key, value in _given(sys.argv[1:]).items() if "trainer." in key}
            raise ConfigError("trainer", given, " ".join(str(error).split())) from error

    def after_instantiate_classes(self) -> None:
        """Gives the recorder what only the command line knows."""
        config = self.config[self.subcommand]
        text = self._parser(self.subcommand).dump(config, skip_none=False)
        seed = config.seed_everything
        self.recorder.describe(text, seed if isinstance(seed, int) else None)

    def before_fit(self) -> None:
        """Training saves its checkpoints in the layout of Hugging Face too."""
        self._callbacks.append(HuggingFaceCheckpoint(self.recorder))

    def after_validate(self) -> None:
        """Shows the table, and says where everything is."""
        if self.recorder.results is not None:
            report.show(self.recorder.results)
        self._say_where("report.md")

    after_test = after_validate

    def after_fit(self) -> None:
        """Says where the checkpoints are."""
        self._say_where("checkpoints")

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
        Exit status: 0 when done, 2 for input that is refused.
    """
    from harness.console import quiet

    quiet()
    try:
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


def _make_absolute(config: Namespace) -> None:
    def absolute(value: Any) -> Any:
        if not isinstance(value, str) or value in ("", "demo"):
            return value
        path = Path(value).expanduser()
        return str(path.resolve()) if path.exists() else value

    for key in ("model.pretrained", "model.tokenizer", "ckpt_path"):
        config[key] = absolute(config[key])
    config["data.dataset"] = absolute_paths(config["data.dataset"])
    for variant in (config.model.variants or {}).values():
        variant["patch"] = absolute(variant["patch"])


def _given(argv: Sequence[str]) -> dict[str, Any]:
    """What the user gave, from the command line and the files it names."""
    given = dict(arguments_given(argv))
    for flag, file in pairwise(argv):
        if flag in ("-c", "--config") and Path(file).is_file():
            try:
                tree = yaml.safe_load(Path(file).read_text())
            except (yaml.YAMLError, UnicodeDecodeError):
                continue
            given |= dict(flatten(tree)) if isinstance(tree, dict) else {}
    return given
