"""Where kernels in Triton are tested: on a GPU, or on the CPU, where they are interpreted."""

from __future__ import annotations

import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on_device(tensor: Tensor) -> Tensor:
    """The tensor where kernels can read it, laid out as it was."""
    if tensor.device.type == DEVICE:
        return tensor
    there = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)
    return there.copy_(tensor)
