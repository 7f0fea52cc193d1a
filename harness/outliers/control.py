"""Matched random controls: as many entries, in the same tensors, chosen by chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.outliers.entries import read
from harness.outliers.tensor_patch import TensorPatch
from harness.outliers.transfer import on_host


def control_of(
    tensors: Sequence[TensorPatch],
    model: nn.Module,
    make: Callable[[Tensor, Tensor, Tensor], Tensor],
    *what: object,
) -> tuple[TensorPatch, ...]:
    """Draws as many entries of the same parameters.

    Args:
        tensors: What the control is for.
        model: The model, with its own weights.
        make: Makes new values of the drawn entries' values, and of the old and new ones of those
            that they stand for, see `Edit.control`.
        what: What tells the control from others of the same.

    Raises:
        ConfigError: If a parameter is not in this model.
    """
    parameters = [tensor.parameter_of(model) for tensor in tensors]
    drawn = [draw(t.entries, prod(t.shape), key_of(*what, t.name)) for t in tensors]
    values = on_host([read(*each) for each in zip(parameters, drawn, strict=True)])
    return tuple(
        TensorPatch(t.name, t.shape, index, old, make(old, t.old.cpu(), t.new.cpu()))
        for t, index, old in zip(tensors, drawn, values, strict=True)
    )


class Shared(NamedTuple):
    """What a patch and a random control of it have in common, in one tensor.

    Attributes:
        tensor: Name of the tensor.
        entries: Entries that the patch edits.
        expected: How many of them a control is expected to edit too.
    """

    tensor: str
    entries: int
    expected: float

    @classmethod
    def by_chance(cls, tensor: TensorPatch) -> Shared:
        """Of N entries, of which n are edited, n draws are each one of those with n / N."""
        return cls(tensor.name, tensor.entries, tensor.entries**2 / prod(tensor.shape))


def draw(count: int, size: int, key: int) -> Tensor:
    """Draws distinct numbers uniformly, in memory for no more than a few times their count.

    They are the first distinct outputs modulo size of Philox 4x64-10 (Salmon et al. 2011, *Parallel
    random numbers: as easy as 1, 2, 3*) as `numpy.random.Philox(key=key)` gives them, whose stream
    numpy keeps as it is. Of more than half of the numbers, those left out are drawn instead.

    Args:
        count: How many, at most size.
        size: They are below this, at most 2^63.
        key: What the stream is of, 0 to 2^64 - 1.

    Returns:
        int64 [count], ascending, on the CPU.
    """
    if 2 * count > size:
        kept = torch.ones(size, dtype=torch.bool)
        kept[draw(size - count, size, key)] = False
        return kept.nonzero()[:, 0]
    stream = np.random.Philox(key=key)
    distinct = np.empty(0, dtype=np.uint64)
    # No more at a time than are missing: what is drawn once more than needed would count too.
    while missing := count - len(distinct):
        drawn = np.sort(stream.random_raw(missing) % np.uint64(size))
        if len(distinct):  # a stable sort merges what is sorted already
            drawn = np.sort(np.concatenate([distinct, drawn]), kind="stable")
        distinct = drawn[np.append(True, drawn[1:] != drawn[:-1])]
    return torch.from_numpy(distinct.astype(np.int64))


def key_of(*what: object) -> int:
    """A key for `draw`: 64 bits that differ for everything that is drawn for.

    Args:
        what: What tells it from others, for example seed, number and name.
    """
    digest = hashlib.sha256("/".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "little")
