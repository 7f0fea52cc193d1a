"""How near a criterion came to selecting something where it selected nothing, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from harness.outliers.pieces import double, mean_and_std, pieces, single


def largest(parameters: Mapping[str, Tensor]) -> str | None:
    """The largest magnitude, and where it is; None where every weight is NaN.

    Args:
        parameters: Where the criterion looked, by name.
    """
    return _farthest(parameters, lambda _: lambda piece: single(piece).abs(), "|w| = {:.4g}")


def farthest_in_sigmas(parameters: Mapping[str, Tensor]) -> str | None:
    """The largest distance from the mean of its tensor, in standard deviations of that, and where.

    Args:
        parameters: Where the criterion looked, by name.

    Returns:
        None where no tensor has a standard deviation above zero.
    """

    def distances(weight: Tensor) -> Callable[[Tensor], Tensor]:
        mean, std = mean_and_std(weight)
        return lambda piece: (double(piece) - mean).abs() / (std or math.nan)

    return _farthest(parameters, distances, "{:.4g} sigma from the mean of its tensor")


def _farthest(
    parameters: Mapping[str, Tensor],
    measure: Callable[[Tensor], Callable[[Tensor], Tensor]],
    words: str,
) -> str | None:
    """A sentence about the weight that a measure, made for each tensor, gives the largest value."""
    record, where = -math.inf, None
    for name, weight in parameters.items():
        distances, start = measure(weight), 0
        for piece in pieces(weight):
            if piece.numel():
                values = distances(piece).flatten().nan_to_num(-math.inf, posinf=math.inf)
                value = float(values.max())
                if value > record:
                    record, where = value, (name, start + int(values.argmax()))
            start += piece.numel()
    if where is None:
        return None
    name, position = where
    total = sum(weight.numel() for weight in parameters.values())
    place = ", ".join(map(str, np.unravel_index(position, parameters[name].shape)))
    return f"the largest of its {total:,} weights is {words.format(record)}, at {name}[{place}]"
