"""What flows through a model: hooks that observe and change nothing."""

from harness.probes.nonfinite import first_nonfinite

__all__ = ["first_nonfinite"]
