"""What is measured unless the user says otherwise."""

from __future__ import annotations

from typing import Any

from harness.data import OPENINGS

# Plain dicts: defaults that are objects could not be written to config.yaml and replayed.
_VARIANTS: dict[str, Any] = {
    "zeroed": {"criterion": {"class_path": "harness.outliers.AbsoluteThreshold"}},
    "sigma5": {
        "criterion": {
            "class_path": "harness.outliers.SigmaThreshold",
            "init_args": {"sigmas": 5.0},
        },
        "scope": {"matrices_only": True},
        "controls": 3,
    },
}

DEFAULTS: dict[str, Any] = {
    "model.variants": _VARIANTS,
    "model.generation": {"max_new_tokens": 40},
    "data.prompts": OPENINGS,
    "trainer.logger": {"class_path": "harness.tracking.RunLogger"},
    "trainer.use_distributed_sampler": False,
    "trainer.enable_model_summary": False,
    "trainer.devices": "auto",  # one; what a launcher has started, under one
}
