"""Large tensors piece by piece, so that nothing in higher precision is made of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PIECE = 2**18
"""Entries of a piece: 2 MiB in double precision, so that its copies stay in a cache."""


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Views of a tensor, in row-major order, each of at most `PIECE` entries.

    Args:
        tensor: Any tensor, contiguous or not.
    """
    tensor = tensor.detach()
    if tensor.numel() <= PIECE:
        yield tensor
    elif tensor.is_contiguous():
        yield from torch.split(tensor.view(-1), PIECE)
    elif len(tensor) == 1:
        yield from pieces(tensor[0])
    else:
        for part in torch.split(tensor, max(1, PIECE // tensor[0].numel())):
            yield from pieces(part)


def mask(tensor: Tensor, test: Callable[[Tensor], Tensor]) -> Tensor:
    """Applies a test to every entry, piece by piece.

    Args:
        tensor: Any tensor.
        test: Gives a bool for every entry of the piece it is given; called in row-major order.

    Returns:
        bool, of the tensor's shape and on its device, contiguous.
    """
    result = torch.empty(tensor.shape, dtype=torch.bool, device=tensor.device)
    flat = result.view(-1)
    start = 0
    for piece in pieces(tensor):
        flat[start : start + piece.numel()] = test(piece).flatten()
        start += piece.numel()
    return result


def single(tensor: Tensor) -> Tensor:
    """The tensor in single precision, or as it is where that is wider."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def double(tensor: Tensor) -> Tensor:
    """The tensor in double precision, in single on devices that have no double."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def finite_range(tensor: Tensor, where: Tensor) -> tuple[float, float] | None:
    """Smallest and largest finite entry among some of a tensor's.

    Args:
        tensor: Any tensor.
        where: The entries to look at, bool of the same shape.

    Returns:
        None if none of them is finite.
    """
    low, high = math.inf, -math.inf
    flat = where.flatten()
    start = 0
    for piece in pieces(tensor):
        values = finite(single(piece.flatten()[flat[start : start + piece.numel()]]))
        if values.numel():
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        start += piece.numel()
    return (low, high) if low <= high else None


def finite(values: Tensor) -> Tensor:
    """The finite entries; the tensor itself, uncopied, where all are."""
    # A sum shows that all are finite at a fraction of the cost of asking each.
    return values if values.sum().isfinite() else values[values.isfinite()]


def mean_and_std(tensor: Tensor) -> tuple[float, float]:
    """Mean and unbiased standard deviation of the finite entries.

    Two passes in double precision; exactly (c, 0) where every entry is c.

    Args:
        tensor: Any tensor.

    Returns:
        Both NaN if fewer than two entries are finite.
    """
    count, low, high = 0, math.inf, -math.inf
    sums: list[float] = []
    for piece in pieces(tensor):
        values = finite(double(piece))
        if values.numel():
            count += values.numel()
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            sums.append(float(values.sum()))
    if count < 2:
        return math.nan, math.nan
    if low == high:
        return low, 0.0
    mean = math.fsum(sums) / count
    squares = [float((finite(double(piece)) - mean).square_().sum()) for piece in pieces(tensor)]
    return mean, math.sqrt(math.fsum(squares) / (count - 1))
