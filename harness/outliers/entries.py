"""Single entries of a tensor, read and written bit for bit wherever they lie in memory.

Everything here goes through integers of the same width: no NaN payload, sign of zero or rounding
can change on the way, and autograd has no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

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


def positions(index: Tensor, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Where entries lie in `memory`.

    Args:
        index: Row-major positions in the tensor, int64 [n].
        shape: Shape of the tensor.
        stride: Its strides, in entries.

    Returns:
        int64 [n]; the index itself where the tensor is contiguous.
    """
    if tuple(stride) == _row_major(shape):
        return index
    found = torch.zeros_like(index)
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        found += index % size * step
        index = index // size
    return found


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def read(tensor: Tensor, index: Tensor) -> Tensor:
    """Values of some entries.

    Args:
        tensor: Any tensor.
        index: Row-major positions in it, int64 [n], on any device.

    Returns:
        A copy [n], of the tensor's data type and on its device.
    """
    if not len(index):
        return tensor.detach().new_empty(0)
    where = positions(index.to(tensor.device), tensor.shape, tensor.stride())
    return memory(tensor).index_select(0, where).view(tensor.dtype)
