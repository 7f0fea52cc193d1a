"""Large tensors piece by piece, so that nothing in higher precision is made of the whole.

Nothing here asks a device for a number, so pieces of a tensor follow one another without a wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

PIECE = 2**18
"""Entries of a piece on the host: 2 MiB in double precision, so that its copies stay in a cache."""
PIECE_AWAY = 2**24
"""Entries of a piece on a device: enough to fill it, and 128 MiB in double precision."""
_WORD = 8


def is_near(tensor: Tensor) -> bool:
    """Whether the host can look at a tensor without a wait for a device."""
    return tensor.device.type == "cpu"


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """Views of a tensor, in row-major order, of at most `PIECE` entries each, or `PIECE_AWAY`.

    Args:
        tensor: Any tensor, contiguous or not.
    """
    return _pieces(tensor.detach(), PIECE if is_near(tensor) else PIECE_AWAY)


def _pieces(tensor: Tensor, most: int) -> Iterator[Tensor]:
    if tensor.numel() <= most:
        yield tensor
    elif tensor.is_contiguous():
        yield from torch.split(tensor.view(-1), most)
    elif len(tensor) == 1:
        yield from _pieces(tensor[0], most)
    else:
        for part in torch.split(tensor, max(1, most // tensor[0].numel())):
            yield from _pieces(part, most)


def mask(tensor: Tensor, test: Callable[[Tensor], Tensor]) -> Tensor:
    """Applies a test to every entry, piece by piece.

    Args:
        tensor: Any tensor.
        test: Gives a bool for every entry of the piece it is given; called in row-major order.

    Returns:
        bool, of the tensor's shape and on its device, contiguous.
    """
    result = tensor.new_empty(tensor.shape, dtype=torch.bool)
    flat = result.view(-1)
    start = 0
    for piece in pieces(tensor):
        flat[start : start + piece.numel()] = test(piece).flatten()
        start += piece.numel()
    return result


def outside(tensor: Tensor, low: float, high: float) -> Tensor:
    """Marks the entries below or above an interval, whose ends no rounding moves.

    Args:
        tensor: Any floating-point tensor. NaN is nowhere.
        low: The lower end, which is within; nothing is outside if it is NaN.
        high: The upper end, likewise.

    Returns:
        bool, of the tensor's shape.
    """
    # The same question, with ends that the data type can hold: it is not widened to be asked.
    dtype = native(tensor.new_empty(0)).dtype
    bottom, top = at_least(low, dtype), at_most(high, dtype)

    def test(piece: Tensor) -> Tensor:
        values = native(piece)
        return (values < bottom).logical_or_(values > top)

    return mask(tensor, test)


def marked(where: Tensor) -> Tensor:
    """Row-major positions of what a mask marks, ascending, by one wait for its device.

    Args:
        where: bool, of any shape and memory layout.

    Returns:
        int64 [n], on its device.
    """
    flat = where.flatten()
    if not is_near(flat):
        return flat.nonzero()[:, 0]
    if not flat.count_nonzero():
        return flat.new_empty(0, dtype=torch.int64)
    # Few are marked as a rule: eight at a time are looked at, and one by one where there is any.
    if flat.storage_offset() % _WORD:
        flat = flat.clone()
    end = len(flat) // _WORD * _WORD
    words = flat[:end].view(torch.int64).nonzero()[:, 0]
    word, byte = flat[:end].view(-1, _WORD)[words].nonzero(as_tuple=True)
    return torch.cat([words[word].mul_(_WORD).add_(byte), flat[end:].nonzero()[:, 0] + end])


def single(tensor: Tensor) -> Tensor:
    """The tensor in single precision, or as it is where that is wider."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def native(tensor: Tensor) -> Tensor:
    """The tensor as it is, or in single precision where it is too narrow to be computed with."""
    return tensor if tensor.element_size() > 1 else tensor.float()


def double(tensor: Tensor) -> Tensor:
    """A copy in double precision, on the host where the device has no such numbers."""
    near = tensor.cpu() if tensor.device.type == "mps" else tensor
    return near.to(torch.float64, copy=True)


def at_most(bound: float, dtype: torch.dtype) -> float:
    """The largest number of a data type that does not exceed another; NaN for NaN."""
    rounded = torch.tensor(bound, dtype=torch.float64).to(dtype)
    if float(rounded) > bound:
        rounded = torch.nextafter(rounded, torch.full_like(rounded, -math.inf))
    return float(rounded)


def at_least(bound: float, dtype: torch.dtype) -> float:
    """The smallest number of a data type that does not fall short of another; NaN for NaN."""
    return -at_most(-bound, dtype)
