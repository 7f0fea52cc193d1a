"""The smallest edit that a data type can hold: what it changes means nothing in that precision."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from harness.outliers.control import draw, key_of
from harness.outliers.entries import read
from harness.outliers.parameters import unique_parameters
from harness.outliers.patch import Patch
from harness.outliers.tensor_patch import TensorPatch
from harness.outliers.transfer import on_host

_SHARE = 64
_MOST = 1024


def nudged(model: nn.Module) -> Patch:
    """Moves some entries of every matrix to the next number of their data type, up or down.

    A model whose weights are these is the same model, but for rounding: in the first layers a few
    values are rounded otherwise, and from there on all are. What such an edit changes is therefore
    what any other order of the same operations may change too (another attention kernel, another
    batch, another machine), in whatever precision. Zeroing entries would not measure that: of 16
    zeroed at random the effect is real in single precision.

    Args:
        model: The model. Matrices that were offloaded are left out.

    Returns:
        A patch of one in 64 entries of each matrix, but at most 1,024 of them, drawn at random;
        every second one moves up, the others down. Which they are depends on the matrices' names
        and sizes alone.
    """
    matrices = {
        name: weight
        for name, weight in unique_parameters(model).items()
        if weight.ndim >= 2 and weight.numel() and not weight.is_meta
    }
    drawn = [_drawn(name, weight.numel()) for name, weight in matrices.items()]
    values = on_host([read(*each) for each in zip(matrices.values(), drawn, strict=True)])
    return Patch(
        tuple(
            TensorPatch(name, tuple(weight.shape), index, old, _moved(old))
            for (name, weight), index, old in zip(matrices.items(), drawn, values, strict=True)
        )
    )


def _drawn(name: str, size: int) -> Tensor:
    return draw(min(_MOST, ceil(size / _SHARE)), size, key_of("rounding", name))


def _moved(values: Tensor) -> Tensor:
    towards = torch.full_like(values, torch.inf)
    towards[1::2] = -torch.inf
    return values.nextafter(towards)
