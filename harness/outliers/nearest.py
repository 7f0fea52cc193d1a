"""How near a criterion came to selecting something where it selected nothing, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.outliers.pieces import double, pieces, single
from harness.outliers.spread import mean_and_std
from harness.outliers.transfer import on_host


class _Measure(NamedTuple):
    """How far out the entries of one tensor are.

    Attributes:
        of: Gives that for every entry of a piece.
        unit: What it is counted in; nothing is far out if that is not above 0.
    """

    of: Callable[[Tensor], Tensor]
    unit: float


def largest(parameters: Mapping[str, Tensor]) -> str | None:
    """The largest magnitude, and where it is; None where every weight is NaN.

    Args:
        parameters: Where the criterion looked, by name.
    """
    magnitude = _Measure(lambda piece: single(piece).abs(), 1.0)
    return _farthest(parameters, lambda _: magnitude, "|w| = {:.4g}")


def farthest_in_sigmas(parameters: Mapping[str, Tensor]) -> str | None:
    """The largest distance from the mean of its tensor, in standard deviations of that, and where.

    Args:
        parameters: Where the criterion looked, by name.

    Returns:
        None where no tensor has a standard deviation above zero.
    """

    def distance(weight: Tensor) -> _Measure:
        mean, std = mean_and_std(weight)
        return _Measure(lambda piece: double(piece).sub_(mean).abs_(), std)

    return _farthest(parameters, distance, "{:.4g} sigma from the mean of its tensor")


def _farthest(
    parameters: Mapping[str, Tensor], measure: Callable[[Tensor], _Measure], words: str
) -> str | None:
    """A sentence about the weight that a measure, made for each tensor, gives the largest value."""
    names, units, tops = [], [], []
    for name, weight in parameters.items():
        by = measure(weight)
        if weight.numel() and by.unit > 0:
            names.append(name)
            units.append(by.unit)
            tops.append(_tops(weight, by).amax().view(1))
    distances = [float(top) / unit for top, unit in zip(on_host(tops), units, strict=True)]
    if not distances or (record := max(distances)) == -math.inf:
        return None
    name = names[distances.index(record)]
    weight = parameters[name]
    position = _first(weight, measure(weight))
    total = sum(weight.numel() for weight in parameters.values())
    place = ", ".join(map(str, np.unravel_index(position, weight.shape)))
    return f"the largest of its {total:,} weights is {words.format(record)}, at {name}[{place}]"


def _tops(weight: Tensor, by: _Measure) -> Tensor:
    """The largest value of each piece [pieces], -inf where all are NaN."""
    return torch.stack([_values(piece, by).amax() for piece in pieces(weight)])


def _first(weight: Tensor, by: _Measure) -> int:
    """The row-major position of the largest value, the first of equal ones."""
    number = int(_tops(weight, by).argmax())
    *before, piece = islice(pieces(weight), number + 1)
    return sum(part.numel() for part in before) + int(_values(piece, by).argmax())


def _values(piece: Tensor, by: _Measure) -> Tensor:
    return by.of(piece).flatten().nan_to_num_(-math.inf, posinf=math.inf, neginf=-math.inf)
