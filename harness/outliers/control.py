"""Matched random controls: as many entries, in the same tensors, chosen by chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from harness.outliers.edits import Edit, scaled_alike
from harness.outliers.entries import read
from harness.outliers.patch import Patch, TensorPatch, find

_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


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
    """Draws distinct numbers uniformly, in time linear in their count.

    Draw i is the i-th output of splitmix64 (Steele, Lea and Flood 2014) modulo size; repeated
    draws are dropped. Of more than half of the numbers, those left out are drawn instead.

    Args:
        count: How many, at most size.
        size: They are below this.
        key: State of the stream, 0 to 2^64 - 1.

    Returns:
        int64 [count], ascending, on the CPU.
    """
    if 2 * count > size:
        kept = torch.ones(size, dtype=torch.bool)
        kept[draw(size - count, size, key)] = False
        return kept.nonzero()[:, 0]
    draws = count + count // 2 + 16
    distinct = _first_distinct(_modulo(splitmix64(key, draws), size))
    while len(distinct) < count:
        draws *= 2
        distinct = _first_distinct(_modulo(splitmix64(key, draws), size))
    return distinct[:count].sort().values


def key_of(*what: object) -> int:
    """A state for `draw`: 64 bits that differ for everything that is drawn for.

    Args:
        what: What tells it from others, for example seed, number and name.
    """
    digest = hashlib.sha256("/".join(map(str, what)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def splitmix64(key: int, count: int) -> Tensor:
    """The first outputs of splitmix64.

    Args:
        key: State of the stream, 0 to 2^64 - 1.
        count: How many.

    Returns:
        int64 [count], bit patterns of unsigned integers, on the CPU.
    """
    z = torch.arange(1, count + 1, dtype=torch.int64) * _signed(_GAMMA) + _signed(key)
    z = (z ^ _shifted(z, 30)) * _signed(_MIX_1)
    z = (z ^ _shifted(z, 27)) * _signed(_MIX_2)
    return z ^ _shifted(z, 31)


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


def _first_distinct(draws: Tensor) -> Tensor:
    """The draws without repetitions, in the order in which they first came."""
    values, order = draws.sort(stable=True)
    first = torch.ones_like(values, dtype=torch.bool)
    first[1:] = values[1:] != values[:-1]
    return draws[order[first].sort().values]


def _modulo(unsigned: Tensor, size: int) -> Tensor:
    """Remainders of unsigned integers that are held as signed ones."""
    remainder = unsigned % size
    return torch.where(unsigned < 0, (remainder + 2**64 % size) % size, remainder)


def _shifted(values: Tensor, places: int) -> Tensor:
    """A logical shift to the right; torch's own repeats the sign."""
    shifted: Tensor = (values >> places) & (2 ** (64 - places) - 1)
    return shifted


def _signed(unsigned: int) -> int:
    """The signed integer of the same 64 bits."""
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned
