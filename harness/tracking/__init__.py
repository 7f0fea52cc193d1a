"""What is kept of a run: its folder, TensorBoard files, results and checkpoints."""

from harness.tracking.checkpoint import HuggingFaceCheckpoint
from harness.tracking.logger import RunLogger
from harness.tracking.recorder import RunRecorder

__all__ = ["HuggingFaceCheckpoint", "RunLogger", "RunRecorder"]
