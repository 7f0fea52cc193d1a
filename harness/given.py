"""What the user gave: options, the files that they name, and the paths in both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from harness.data import OPENINGS, absolute_paths
from harness.refusal import arguments_given, flatten


def values_given(argv: Sequence[str]) -> dict[str, Any]:
    """What the user gave, from the command line and the files it names."""
    found = dict(arguments_given(argv))
    for file in config_files(argv):
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
        found |= dict(flatten(tree))
    return found


def config_files(argv: Sequence[str]) -> list[Path]:
    """Configuration files that a command line names and that exist."""
    paths = [Path(file) for flag, file in pairwise(argv) if flag in ("-c", "--config")]
    paths += [Path(item.partition("=")[2]) for item in argv if item.startswith("--config=")]
    return [path for path in paths if path.is_file()]


def make_absolute(config: Namespace) -> None:
    """Makes paths absolute, so that config.yaml replays a run from any folder."""

    def absolute(value: Any) -> Any:
        if not isinstance(value, str) or value in ("", "demo"):
            return value
        # What exists is meant, whatever it looks like; and unlike those of Path, these functions
        # take a sentence too long to be the name of a file, and a home that nobody has.
        here = (path for path in (value, os.path.expanduser(value)) if os.path.exists(path))
        return next((str(Path(path).resolve()) for path in here), value)

    for key in ("model.pretrained", "model.tokenizer", "ckpt_path"):
        if key in config:
            config[key] = absolute(config[key])
    config["data.dataset"] = absolute_paths(config["data.dataset"])
    if config["data.prompts"] != OPENINGS:
        config["data.prompts"] = absolute(config["data.prompts"])
    for variant in (config.model.variants or {}).values():
        variant["patch"] = absolute(variant["patch"])
    if config.model.generation is not None:
        metrics = config.model.generation.metrics
        config.model.generation.metrics = [absolute(metric) for metric in metrics]
