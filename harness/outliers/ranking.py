"""The largest entries of a tensor, exactly as many as asked for, without sorting it."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.outliers.entries import bits
from harness.outliers.pieces import mask, pieces, single

_DIGIT = 16
_INFINITY = {torch.int32: 0x7F800000, torch.int64: 0x7FF0000000000000}


def largest(tensor: Tensor, count: int) -> Tensor:
    """Selects the entries that are largest in magnitude.

    A radix selection: magnitudes, read as integers, have the order of the values, and counting
    their leading digits finds the one of the given rank in a few passes. Of entries equal to it,
    those that come first in row-major order are taken.

    Args:
        tensor: Any floating-point tensor. Infinities are the largest; NaN is never taken.
        count: How many to select; all but NaN if there are fewer.

    Returns:
        bool, of the tensor's shape.
    """
    bound, missing = _of_rank(tensor, count) if count else (0, 0)
    if not missing:
        return torch.zeros(tensor.shape, dtype=torch.bool, device=tensor.device)

    def take(piece: Tensor) -> Tensor:
        nonlocal missing
        magnitudes = _magnitudes(piece)
        taken = magnitudes > bound
        ties = (magnitudes == bound).nonzero()[:missing, 0]
        missing -= len(ties)
        taken[ties] = True
        return taken

    return mask(tensor, take)


def _of_rank(tensor: Tensor, rank: int) -> tuple[int, int]:
    """The rank-th largest magnitude, and how many of those equal to it are within the rank.

    The smallest where there are fewer; (0, 0) where there are none.
    """
    prefix, remaining = 0, rank
    width = 64 if tensor.dtype == torch.float64 else 32
    for shift in reversed(range(0, width, _DIGIT)):
        counts = torch.zeros(2**_DIGIT, dtype=torch.int64, device=tensor.device)
        for piece in pieces(tensor):
            rest = _magnitudes(piece) >> shift
            candidates = rest >> _DIGIT == prefix
            if not candidates.all():
                rest = rest[candidates]
            counts += (rest & (2**_DIGIT - 1)).bincount(minlength=2**_DIGIT)
        at_least = counts.flip(0).cumsum(0).flip(0)
        remaining = min(remaining, int(at_least[0]))
        if not remaining:
            return 0, 0
        digit = int((at_least >= remaining).sum()) - 1
        remaining -= int(at_least[digit] - counts[digit])
        prefix = prefix << _DIGIT | digit
    return prefix, remaining


def _magnitudes(piece: Tensor) -> Tensor:
    """Integers in the order of the entries' magnitudes [n], -1 for NaN."""
    values = bits(single(piece).flatten())
    infinity = _INFINITY[values.dtype]
    magnitudes: Tensor = values & torch.iinfo(values.dtype).max
    # NaN has the patterns above infinity; one look at the largest spares most pieces the rest.
    if magnitudes.numel() and magnitudes.max() > infinity:
        magnitudes.masked_fill_(magnitudes > infinity, -1)
    return magnitudes
