"""Single entries of a tensor, read and written bit for bit wherever they lie in memory.

Everything here goes through integers of the same width: no NaN payload, sign of zero or rounding
can change on the way, and autograd has no part in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.base import shards

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """The same memory as integers of the same width, in the same shape."""
    return tensor.view(_INTEGERS[tensor.element_size()])


def memory(tensor: Tensor) -> Tensor:
    """The memory that a tensor spans, as integers in one dimension.

    Args:
        tensor: Any tensor, contiguous or not, of at least one entry.

    Returns:
        A view: writing to it writes to the tensor.
    """
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    span = 1 + sum((size - 1) * step for size, step in steps)
    return bits(tensor.detach().as_strided((span,), (1,), tensor.storage_offset()))


def positions(index: Tensor, tensor: Tensor) -> Tensor:
    """Where entries of a tensor lie in its `memory`.

    Args:
        index: Row-major positions in the tensor, int64 [n], on any device.
        tensor: Any tensor.

    Returns:
        int64 [n], on the tensor's device.
    """
    # No wait for what the device has to do first; memory of the host can be let go of right away.
    index = index.to(tensor.device, non_blocking=True)
    if tensor.is_contiguous():
        return index
    found = torch.zeros_like(index)
    for size, step in zip(reversed(tensor.shape), reversed(tensor.stride()), strict=True):
        found += index % size * step
        index = index // size
    return found


def read(tensor: Tensor, index: Tensor) -> Tensor:
    """Values of some entries.

    Args:
        tensor: Any tensor; of one that is divided among processes, all have to read.
        index: Row-major positions in it, int64 [n], on any device.

    Returns:
        A copy [n], of the tensor's data type and on its device.
    """
    own = shards.local(tensor).detach()
    here, found = shards.share(index, tensor)
    values = bits(own.new_empty(0))
    if len(found):
        values = memory(own).index_select(0, positions(found, own))
    return shards.collect(values, here, tensor).view(tensor.dtype)
