"""Matched random controls: as many entries, in the same tensors, chosen by chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from harness.outliers.edits import Edit, scaled_alike
from harness.outliers.entries import read
from harness.outliers.patch import Patch, TensorPatch, find


def matched_control(
    patch: Patch, model: nn.Module, seed: int, number: int, edit: Edit | None = None
) -> Patch:
    """Draws a random patch to hold another one against.

    In every tensor it edits as many entries, chosen uniformly from all of them. The choice depends
    on seed, number and the tensor's name and size alone: not on machine, device, threads, or the
    number of processes.

    Args:
        patch: What the control is for.
        model: The model, with its own weights.
        seed: Seed of all controls.
        number: Which of the controls, from 0.
        edit: What made the patch; its `control` decides what becomes of the drawn entries. None,
            for a patch whose edit is not known: each is scaled by the ratio of new to old of the
            entry it stands for.

    Returns:
        A patch of the same tensors and the same number of entries in each.

    Raises:
        ConfigError: If the patch is not for this model.
    """
    make = edit.control if edit is not None else scaled_alike
    return Patch(tuple(_tensor_control(t, model, seed, number, make) for t in patch.tensors))


def shared_by_chance(tensor: TensorPatch) -> float:
    """How many of a tensor's edited entries a matched control is expected to edit too.

    Of N entries, of which n are edited, each of n draws is one of those with probability n / N.
    """
    return tensor.entries**2 / prod(tensor.shape)


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
    while len(distinct) < count:
        drawn = np.concatenate([distinct, stream.random_raw(count) % np.uint64(size)])
        _, first = np.unique(drawn, return_index=True)
        distinct = drawn[np.sort(first)]
    return torch.from_numpy(np.sort(distinct[:count]).astype(np.int64))


def key_of(*what: object) -> int:
    """A key for `draw`: 64 bits that differ for everything that is drawn for.

    Args:
        what: What tells it from others, for example seed, number and name.
    """
    digest = hashlib.sha256("/".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _tensor_control(
    tensor: TensorPatch,
    model: nn.Module,
    seed: int,
    number: int,
    make: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> TensorPatch:
    index = draw(tensor.entries, prod(tensor.shape), key_of(seed, number, tensor.name))
    values = read(find(model, tensor), index).cpu()
    new = make(values, tensor.old.cpu(), tensor.new.cpu())
    return TensorPatch(tensor.name, tensor.shape, index, values, new)
