"""The variants that are measured unless the user says otherwise."""

from __future__ import annotations

from typing import Any

# Plain dicts: defaults that are objects could not be written to config.yaml and replayed.
VARIANTS: dict[str, Any] = {
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
