"""Hugging Face models: where they lie, how they are loaded, and whether they can be measured."""

from harness.models.pretrained import DType, Pretrained
from harness.models.sharding import Sharding
from harness.models.trials import try_out

__all__ = ["DType", "Pretrained", "Sharding", "try_out"]
