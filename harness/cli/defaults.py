"""What is measured unless the user says otherwise."""

from __future__ import annotations

from typing import Any

from harness.cli.default_variants import VARIANTS
from harness.data import OPENINGS

DEFAULTS: dict[str, Any] = {
    "model.variants": VARIANTS,
    "model.generation": {"max_new_tokens": 40},
    "data.prompts": OPENINGS,
    "trainer.logger": {"class_path": "harness.tracking.RunLogger"},
    "trainer.use_distributed_sampler": False,
    "trainer.enable_model_summary": False,
    "trainer.devices": 1,  # results are exact for one process alone
}
