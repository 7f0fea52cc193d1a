"""From a criterion and an edit to the edited entries: found where the weights lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.base import shards
from harness.errors import ConfigError
from harness.outliers.criteria import Criterion
from harness.outliers.edits import Edit
from harness.outliers.entries import read
from harness.outliers.pieces import marked
from harness.outliers.tensor_patch import TensorPatch
from harness.outliers.transfer import on_host

_AT_ONCE = 2**24
"""Entries that are kept on a device before they are copied together: 200 MB in single precision."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a `TensorPatch` holds, on the device where it was found."""

    name: str
    shape: tuple[int, ...]
    index: Tensor
    old: Tensor
    new: Tensor


def select(name: str, weight: Tensor, criterion: Criterion, edit: Edit) -> Found | None:
    """Finds the outliers of one parameter and what becomes of them.

    Returns:
        None where there are no outliers.

    Raises:
        ConfigError: If the parameter has no values here, because it was offloaded.
        TypeError: If a criterion or edit of your own gives tensors of another shape or data type
            than it should.
    """
    if weight.is_meta:
        reason = "was offloaded and cannot be edited; keep it on a device"
        raise ConfigError("model.device_map", name, reason)
    weight = shards.whole(weight)
    mask = criterion.select(weight)
    _check_kind(mask, torch.bool, weight.shape, criterion, name)
    index = marked(mask)
    if not len(index):
        return None
    new = edit.replace(weight, index, criterion)
    _check_kind(new, weight.dtype, index.shape, edit, name)
    return Found(name, tuple(weight.shape), index, read(weight, index), new.detach())


def copied(found: Iterable[Found | None]) -> Iterator[TensorPatch]:
    """Patches on the CPU, those of many parameters by one copy.

    Args:
        found: What was found of each parameter, in turn.
    """
    held: list[Found] = []
    for each in found:
        if each is not None:
            held.append(each)
        if sum(len(one.index) for one in held) >= _AT_ONCE:
            yield from _together(held)
            held = []
    yield from _together(held)


def _together(found: list[Found]) -> Iterator[TensorPatch]:
    tensors = iter(on_host([part for each in found for part in (each.index, each.old, each.new)]))
    for each in found:
        yield TensorPatch(each.name, each.shape, next(tensors), next(tensors), next(tensors))


def _check_kind(
    given: Tensor, dtype: torch.dtype, shape: torch.Size, by: Criterion | Edit, name: str
) -> None:
    if given.dtype != dtype or given.shape != shape:
        what = f"{given.dtype} {list(given.shape)} for {name}"
        raise TypeError(f"{by} gave {what}; {dtype} {list(shape)} was due")
