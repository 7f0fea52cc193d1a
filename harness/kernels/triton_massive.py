"""Massive activations on a GPU, in Triton, without waiting for their median.

A magnitude is found by its rank byte after byte of its bits, whose order is its own: a launch
counts how many of a text have each byte, among those with the bytes that are known by then. A text
whose largest magnitude is below the threshold is not read.

Legend: B texts, k stretches, P parts.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.kernels import layout
from harness.kernels.triton_moments import (
    COLUMNS,
    FOUND,
    HOW,
    PART,
    START,
    STOP,
    STRETCH,
    TEXT,
    computed_in,
)
from harness.kernels.where import launching

_MASSIVE = tl.constexpr(layout.MASSIVE)

BYTES = 256
"""How many bytes there are."""

_BYTES = tl.constexpr(BYTES)
_BITS = {torch.float16: tl.int16, torch.bfloat16: tl.int16, torch.float32: tl.int32}


def count_massive(
    values: Tensor,
    table: Tensor,
    partial: Tensor,
    settings: Tensor,
    counts: Tensor,
    numbers: Tensor,
) -> None:
    """Counts the massive activations of each part, after `triton_moments.look`.

    Args:
        values: A matrix [n, D] of a floating-point type, contiguous.
        table: Its stretches, int32 [k, `layout.STRETCH`].
        partial: What was found of each, fp64 [k, `triton_moments.PARTIAL`].
        settings: Third and fourth, magnitude and ratio to the median that one exceeds, fp64 [4].
        counts: Zeros, int32 [B, bytes of a value, `BYTES`].
        numbers: Where counts of each part go, fp64 [P, `layout.COLUMNS`].
    """
    shared = (values, table, partial, settings, counts)
    size = values.element_size()
    how = {"SIZE": size, "BITS": _BITS.get(values.dtype, tl.int64), **HOW}
    whole, shape, kind = (
        numbers.view(torch.int64),
        (len(table), values.shape[1]),
        computed_in(values),
    )
    grid = (len(table),)
    with launching(values.device):
        for level in range(size):
            _count_bytes[grid](*shared, *shape, LEVEL=level, **how)
        _count_massive[grid](*shared, whole, *shape, TYPE=kind, **how)


@triton.jit
def _text(
    table,
    partial,
    text,
    stretches,
    LANES: tl.constexpr,
):
    """How many rows a text has, and its largest magnitude; infinite where one is not a number."""
    lanes = tl.arange(0, LANES)
    rows, largest = tl.zeros([LANES], tl.int64), tl.zeros([LANES], tl.float64)
    for at in range(0, stretches, LANES):
        other = at + lanes
        there = other < stretches
        own = there & (tl.load(table + other * STRETCH + TEXT, mask=there, other=-1) == text)
        rows += tl.load(table + other * STRETCH + STOP, mask=own, other=0)
        rows -= tl.load(table + other * STRETCH + START, mask=own, other=0)
        high = tl.load(partial + other * FOUND + 4, mask=own, other=0.0)
        broken = high != high
        largest = tl.where(broken | (high > largest), high, largest)
    broken = tl.max((largest != largest).to(tl.int32), 0) > 0
    highest = tl.max(tl.where(largest == largest, largest, 0.0), 0)
    return tl.sum(rows, 0), tl.where(broken, 0.0, highest)


@triton.jit
def _ranked(counts, count, LEVELS: tl.constexpr):
    """The upper bytes of the lower median of a text, as far as they have been counted."""
    places = tl.arange(0, _BYTES)
    rank, known = (count + 1) // 2, count * 0
    for level in tl.static_range(LEVELS):
        up_to = tl.cumsum(tl.load(counts + level * _BYTES + places).to(tl.int64), 0)
        below = up_to < rank
        rank -= tl.max(tl.where(below, up_to, 0), 0)
        known = known * 256 + tl.sum(below.to(tl.int64), 0)
    return known


@triton.jit
def _magnitude_bits(x, BITS: tl.constexpr, SIZE: tl.constexpr):
    if SIZE == 2:
        bits = x.to(BITS, bitcast=True).to(tl.int32) & 0x7FFF
    elif SIZE == 4:
        bits = x.to(BITS, bitcast=True) & 0x7FFFFFFF
    else:
        bits = x.to(BITS, bitcast=True) & 0x7FFFFFFFFFFFFFFF
    return bits


@triton.jit
def _count_bytes(
    values,
    table,
    partial,
    settings,
    counts,
    stretches,
    width,
    LEVEL: tl.constexpr,
    SIZE: tl.constexpr,
    BITS: tl.constexpr,
    LANES: tl.constexpr,
):
    row = table + tl.program_id(0) * STRETCH
    text = tl.load(row + TEXT)
    rows, largest = _text(table, partial, text, stretches, LANES)
    if largest > tl.load(settings + 2):
        counts += text * SIZE * _BYTES
        known = _ranked(counts, rows * width, LEVEL)
        start = tl.load(row + START).to(tl.int64) * width
        stop = tl.load(row + STOP).to(tl.int64) * width
        lanes = tl.arange(0, LANES)
        found = tl.zeros([_BYTES], tl.int32)
        for at in range(start, stop, LANES):
            there = at + lanes < stop
            bits = _magnitude_bits(tl.load(values + at + lanes, mask=there, other=0.0), BITS, SIZE)
            bits = bits >> (8 * (SIZE - 1 - LEVEL))
            own = there
            if LEVEL > 0:
                own = own & ((bits >> 8) == known)
            found += tl.histogram((bits & 255).to(tl.int32), _BYTES, mask=own)
        places = tl.arange(0, _BYTES)
        tl.atomic_add(counts + LEVEL * _BYTES + places, found, mask=found > 0)


@triton.jit
def _count_massive(
    values,
    table,
    partial,
    settings,
    counts,
    whole,
    stretches,
    width,
    TYPE: tl.constexpr,
    SIZE: tl.constexpr,
    BITS: tl.constexpr,
    LANES: tl.constexpr,
):
    row = table + tl.program_id(0) * STRETCH
    text = tl.load(row + TEXT)
    rows, largest = _text(table, partial, text, stretches, LANES)
    absolute = tl.load(settings + 2)
    own = tl.load(partial + tl.program_id(0) * FOUND + 4)
    if (largest > absolute) & (own > absolute):
        known = _ranked(counts + text * SIZE * _BYTES, rows * width, SIZE)
        median = known.to(BITS).to(values.dtype.element_ty, bitcast=True).to(TYPE)
        bound = median * tl.load(settings + 3).to(TYPE)
        start = tl.load(row + START).to(tl.int64) * width
        stop = tl.load(row + STOP).to(tl.int64) * width
        lanes = tl.arange(0, LANES)
        massive = tl.zeros([LANES], tl.int32)
        for at in range(start, stop, LANES):
            x = tl.load(values + at + lanes, mask=at + lanes < stop, other=0.0).to(TYPE)
            x = tl.abs(x)
            massive += ((x > absolute.to(TYPE)) & (x > bound)).to(tl.int32)
        place = whole + tl.load(row + PART).to(tl.int64) * COLUMNS + _MASSIVE
        tl.atomic_add(place, tl.sum(massive, 0).to(tl.int64))
