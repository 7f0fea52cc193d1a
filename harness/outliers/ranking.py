"""The largest entries of a tensor, exactly as many as asked for, without sorting it.

Magnitudes are compared as integers, which have the order of the values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.outliers.entries import bits, read
from harness.outliers.pieces import marked, mask, native, pieces

_DIGIT = 16
_INFINITY = {
    torch.bfloat16: 0x7F80,
    torch.float16: 0x7C00,
    torch.float32: 0x7F800000,
    torch.float64: 0x7FF0000000000000,
}
# Entries of a group of which the largest is looked at first, at least and at most. With four times
# as many groups as entries that are looked for, few others are as large as what is found so.
_GROUP = 64, 256
_GROUPS = 4


def largest(tensor: Tensor, count: int) -> Tensor:
    """Selects the entries that are largest in magnitude.

    Of entries equal in magnitude, those that come first in row-major order are taken.

    Args:
        tensor: Any floating-point tensor. Infinities are the largest; NaN is never taken.
        count: How many to select; all but NaN if there are fewer.

    Returns:
        bool, of the tensor's shape.
    """
    result = tensor.new_zeros(tensor.shape, dtype=torch.bool)
    if not count:
        return result
    bound = _exceeded_by(tensor, count)
    if bound is None:
        return _by_counting(tensor, count)
    index = marked(mask(tensor, lambda piece: _keys(piece) >= bound))
    order = _keys(read(tensor, index)).sort(stable=True, descending=True).indices
    result.view(-1).index_fill_(0, index[order[:count]], True)
    return result


def _keys(values: Tensor) -> Tensor:
    """Integers of at least 0 in the order of the entries' magnitudes [n], lowest for NaN."""
    values = native(values.flatten())
    integers = bits(values)
    most = torch.iinfo(integers.dtype).max
    # NaN has the patterns above infinity: one step less than that, the others turn around zero to
    # the upper end and leave them below.
    return (integers & most).sub_(_INFINITY[values.dtype] + 1).bitwise_and_(most)


def _least(values: Tensor) -> int:
    """The key of zero, which that of NaN does not reach."""
    values = native(values.new_empty(0))
    return torch.iinfo(bits(values).dtype).max - _INFINITY[values.dtype]


def _exceeded_by(tensor: Tensor, count: int) -> Tensor | None:
    """A key that so many entries of a tensor reach, and not many more, unless they are NaN.

    It is that of the count-th largest of groups' largest entries.

    Returns:
        0-d, on the tensor's device; None where groups would be too small to spare anything.
    """
    size = min(_GROUP[1], tensor.numel() // (_GROUPS * count))
    if size < _GROUP[0]:
        return None
    tops = []
    for piece in pieces(tensor):
        groups = piece.numel() // size
        if groups:
            tops.append(_keys(piece)[: groups * size].view(size, groups).amax(0))
    if sum(map(len, tops)) < count:
        return None
    found = torch.cat(tops).topk(count, sorted=False).values
    return found.amin().clamp_(min=_least(tensor))


def _by_counting(tensor: Tensor, count: int) -> Tensor:
    """Selects the largest entries, of whatever share: in passes, without memory for positions."""
    bound, missing = _of_rank(tensor, count)
    seen = torch.zeros_like(missing)

    def take(piece: Tensor) -> Tensor:
        nonlocal seen
        keys = _keys(piece)
        ties = keys == bound
        number = ties.cumsum(0) + seen
        if len(number):
            seen = number[-1]
        return (keys > bound).logical_or_(ties.logical_and_(number <= missing))

    return mask(tensor, take)


def _of_rank(tensor: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The key of a rank, and how many of those equal to it are within the rank.

    A radix selection: counting their leading digits finds the one of the given rank in a few
    passes.

    Returns:
        Both 0-d int64, on the tensor's device; zero's and all where numbers do not suffice.
    """
    bins, least = 2**_DIGIT, _least(tensor)
    prefix = tensor.new_zeros((), dtype=torch.int64)
    remaining = torch.full_like(prefix, rank)
    for shift in reversed(range(0, 8 * native(tensor.new_empty(0)).element_size(), _DIGIT)):
        counts = prefix.new_zeros(bins + 1)
        for piece in pieces(tensor):
            rest = _keys(piece).long() >> shift
            # The last bin is for what differs in the digits before.
            digits = (rest & (bins - 1)).masked_fill_(rest >> _DIGIT != prefix, bins)
            counts.index_add_(0, digits, counts.new_ones(1).expand(len(digits)))
        counts = counts[:bins]
        at_least = counts.flip(0).cumsum(0).flip(0)
        digit = (at_least >= remaining).sum() - 1
        remaining = remaining - (at_least - counts).take(digit)
        prefix = prefix << _DIGIT | digit
    few = prefix < least
    return prefix.clamp(min=least), remaining.masked_fill(few, tensor.numel())
