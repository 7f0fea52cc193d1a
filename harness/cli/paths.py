"""Paths in a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from harness.data import OPENINGS, absolute_paths


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
