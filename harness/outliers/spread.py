"""Mean, deviation and range of a tensor: the same to the last bit on every device.

A sum depends on the order of its additions, and libraries add in an order of their own: on another
device, with more threads or wider registers another. Here the order is written out, as additions
of halves of a block to each other, each of which IEEE 754 defines.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.outliers.pieces import double, pieces, single

_BLOCK = 2**18  # entries that are added up by halves, whatever pieces they come in
_LANES = 2**8  # as far as each block is; from there on all together
_NEARLY = 1e-12  # of the mean: a smaller deviation may be that of a constant and of rounding

_Known = dict[int, tuple[weakref.ref[Tensor], tuple[float, float]]]
_known: ContextVar[_Known | None] = ContextVar("known", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """Within the block no tensor is changed, so that each is asked once for mean and deviation.

    Blocks may be nested: what is known within one is forgotten when the outermost ends.
    """
    if _known.get() is not None:
        yield
        return
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def mean_and_std(tensor: Tensor) -> tuple[float, float]:
    """Mean and unbiased standard deviation of the finite entries.

    Two passes in double precision, and one wait for the device; exactly (c, 0) where every entry
    is c.

    Args:
        tensor: Any tensor.

    Returns:
        Both NaN if fewer than two entries are finite.
    """
    known = _known.get()
    if known is None:
        return _mean_and_std(tensor)
    of, found = known.get(id(tensor), (None, (math.nan, math.nan)))
    if of is None or of() is not tensor:  # a number may have been that of another one before
        found = _mean_and_std(tensor)
        known[id(tensor)] = weakref.ref(tensor), found
    return found


def _mean_and_std(tensor: Tensor) -> tuple[float, float]:
    count = tensor.numel()
    if count < 2:
        return math.nan, math.nan
    mean, squares = _moments(tensor, count, all_finite=True)
    if not math.isfinite(squares):
        count = int(torch.stack([p.isfinite().sum() for p in pieces(tensor)]).sum())
        if count < 2:
            return math.nan, math.nan
        mean, squares = _moments(tensor, count, all_finite=False)
    if not math.isfinite(squares):
        return math.nan, math.nan
    std = math.sqrt(squares / (count - 1))
    if 0 < std <= _NEARLY * abs(mean):
        low, high = finite_range(tensor) or (math.nan, math.nan)
        if low == high:
            return low, 0.0
    return mean, std


def _moments(tensor: Tensor, count: int, all_finite: bool) -> tuple[float, float]:
    """Mean, and sum of the squared distances from it.

    Args:
        tensor: Any tensor.
        count: How many of its entries are finite.
        all_finite: Whether they are taken for all of them; if not, the others are left out.
    """
    total = _total(tensor, lambda values: values, all_finite)
    # By a tensor: what a device does with a number is to multiply by its rounded reciprocal.
    mean = total / total.new_full((), count)
    squares = _total(tensor, lambda values: values.sub_(mean).square_(), all_finite)
    found = torch.stack([mean, squares]).tolist()
    return found[0], found[1]


def _total(tensor: Tensor, term: Callable[[Tensor], Tensor], all_finite: bool) -> Tensor:
    """The sum of a term of each entry, 0-d in double precision.

    Args:
        tensor: Any tensor.
        term: Makes the terms of entries in double precision, in their place.
        all_finite: Whether terms of entries that are not finite are added too.
    """
    rows = []
    for block in _blocks(tensor):
        terms = term(double(block))
        if not all_finite:
            terms = terms.masked_fill_(~double(block).isfinite(), 0.0)
        rows.append(_lanes(terms))
    return _folded(_folded(torch.cat(rows).t().contiguous(), 1).t(), 1)[0, 0]


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    """Pieces of whole blocks in row-major order, the last one apart [n]."""
    held = tensor.detach().new_empty(0)
    for piece in pieces(tensor):
        flat = torch.cat([held, piece.flatten()]) if len(held) else piece.flatten()
        whole = len(flat) - len(flat) % _BLOCK
        if whole:
            yield flat[:whole]
        held = flat[whole:]
    if len(held):
        yield held


def _lanes(values: Tensor) -> Tensor:
    """Sums of every 256th entry of a block, row by row; values are of whole blocks or of a part."""
    if len(values) >= _BLOCK:
        return _folded(values.view(-1, _BLOCK), _LANES)
    part = _folded(values.view(1, -1), _LANES)
    return pad(part, (0, _LANES - part.shape[1]))


def _folded(rows: Tensor, width: int) -> Tensor:
    """Rows of which the second half has been added to the first, in place, until they are so wide.

    Half is half of a power of two: what lacks of it counts as zeros.
    """
    while (size := rows.shape[1]) > width:
        half = 1 << (size - 1).bit_length() - 1
        rows, rest = rows.split_with_sizes([half, size - half], dim=1)
        (rows if size == 2 * half else rows[:, : size - half]).add_(rest)
    return rows


def finite_range(tensor: Tensor, where: Tensor | None = None) -> tuple[float, float] | None:
    """Smallest and largest finite entry of a tensor, by one wait for its device.

    Args:
        tensor: Any tensor.
        where: The entries to look at, bool of the same shape; None for all.

    Returns:
        None if none of them is finite.
    """
    flat = None if where is None else where.flatten()
    ranges, start = [], 0
    for piece in pieces(tensor):
        if piece.numel():
            values = single(piece.flatten())
            seen = values.isfinite()
            if flat is not None:
                seen &= flat[start : start + len(values)]
            low, high = values.where(seen, math.inf).amin(), values.where(seen, -math.inf).amax()
            ranges.append(torch.stack([low, high]))
        start += piece.numel()
    if not ranges:
        return None
    found = torch.stack(ranges)
    low, high = torch.stack([found[:, 0].amin(), found[:, 1].amax()]).tolist()
    return (low, high) if low <= high else None
