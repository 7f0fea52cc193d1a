"""Reads the values of stretches of rows: by compiled loops on the CPU, by operations elsewhere.

Legend: n rows of D features, k stretches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.probes.parts import Stretches

Floats = NDArray[np.float64]


def power_sums(values: Tensor, part: Stretches, about: float | None = None) -> Floats:
    """Sums of x, x², x³, x⁴ of stretches, and their least and greatest value [k, 6].

    Args:
        values: A matrix [n, D] of a floating-point type, with values.
        part: The stretches, at least one.
        about: What is subtracted first, all in fp64.

    Returns:
        In fp64; where a value is NaN, so is its stretch's least value or its greatest.
    """
    if values.device.type != "cpu" and about is None:
        return sums_by_operations(values, part)
    from harness.kernels import moments as kernels

    found = [kernels.power_sums(*piece) for piece in _in_memory(values, part, about)]
    return found[0] if len(found) == 1 else np.concatenate(found)


def sums_by_operations(values: Tensor, part: Stretches) -> Floats:
    """The same on any device, with one copy to the host."""
    values = widened(values)
    square = values * values
    sums = [values.sum(1), square.sum(1), (values * square).sum(1), (square * square).sum(1)]
    rows = torch.stack([*sums, *values.aminmax(dim=1)], 1).cpu().double().numpy()
    pieces = [rows[start:stop] for start, stop in part]
    return np.array([[*p[:, :4].sum(0), p[:, 4].min(), p[:, 5].max()] for p in pieces])


def count_outside(
    values: Tensor, part: Stretches, absolute: float, center: float, reach: float
) -> tuple[int, int]:
    """How many values exceed a magnitude, and how many a distance from a centre."""
    if values.device.type != "cpu":
        return outside_by_operations(values, part, absolute, center, reach)
    from harness.kernels import moments as kernels

    pieces = _in_memory(values, part)
    found = [kernels.count_outside(*piece, absolute, center, reach) for piece in pieces]
    beyond, outside = map(sum, zip(*found, strict=True))
    return beyond, outside


def outside_by_operations(
    values: Tensor, part: Stretches, absolute: float, center: float, reach: float
) -> tuple[int, int]:
    """The same on any device, in the values' own type or fp32."""
    whole = torch.cat([widened(values[start:stop]) for start, stop in part.tolist()])
    return count(whole.abs().gt_(absolute)), count((whole - center).abs_().gt_(reach))


def count(flags: Tensor) -> int:
    """How many of some ones and zeros are ones.

    Floating-point flags: comparisons that write their own type, and sums of it, are four times as
    fast as those of bools. A sum in fp32 is exact up to 2^24.
    """
    return sum(int(part.sum()) for part in torch.split(flags.flatten(), 2**24))


def widened(values: Tensor) -> Tensor:
    """The values in a type that sums can be made in, fp32 or fp64."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _in_memory(
    values: Tensor, part: Stretches, about: float | None = None
) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Values as compiled loops read them, the room they need, and where stretches start and stop.

    What has to be converted is, stretch by stretch: a whole copy may be large.
    """
    from harness.kernels import moments as kernels

    whole = about is None and values.dtype != torch.float16
    for places in [part] if whole else part[:, None]:
        piece = values
        if not whole:
            piece = values[slice(*places[0].tolist())]
            piece = piece.float() if about is None else piece.cpu().double() - about
            places = places - places[0, 0]
        piece = piece.contiguous()
        if piece.dtype == torch.bfloat16:
            piece = piece.view(torch.int16)
        room = np.empty(kernels.BLOCK, np.int64 if piece.dtype == torch.float64 else np.int32)
        yield piece.numpy().reshape(-1), room, places * piece.shape[1]
