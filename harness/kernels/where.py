"""Which tensors the loops that are written in Triton read; it is not imported to find out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec

import torch

from harness.base.console import note

# What Triton makes code for begins with Volta.
_OLDEST = (7, 0)

Trial = Callable[[torch.device, torch.dtype], bool]
"""Does by kernels what plain operations do, on a few values, and says whether both agree."""


@cache
def by_triton(device: torch.device, dtype: torch.dtype, trial: Trial) -> bool:
    """Whether values on a device are read by kernels in Triton: on CUDA and ROCm, where it is.

    They are tried first, once in a process: what does not compile on somebody's GPU, or computes
    something else there, must not end a run, nor decide what it finds.

    Args:
        device: Where the values are.
        dtype: Their type, which kernels are compiled for.
        trial: Tries them. It may raise anything, and waits for the device.
    """
    if not can_be_tried(device):
        return False
    try:
        if trial(device, dtype):
            return True
        why = "they compute something else"
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    note(f"plain operations do the work of Triton's kernels with {dtype} on {device}, where {why}")
    return False


def can_be_tried(device: torch.device) -> bool:
    """Whether a device is one that Triton makes code for, and Triton is installed."""
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _OLDEST


def launching(device: torch.device) -> AbstractContextManager[object]:
    """Where kernels are launched: on the device of what they read, which may not be the current."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
