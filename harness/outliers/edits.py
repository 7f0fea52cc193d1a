"""What becomes of outliers, and of the random entries that serve as their control."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import check_positive
from harness.outliers.criteria import Criterion
from harness.outliers.entries import read
from harness.outliers.pieces import at_least, at_most


class Edit(ABC):
    """Gives outliers new values.

    A subclass says in `replace` which. Made a frozen dataclass, its fields are its arguments on
    the command line and its `str` is what results call it by.
    """

    @abstractmethod
    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        """New values of one weight's outliers.

        Args:
            weight: The parameter, of any shape and memory layout.
            index: Row-major positions of its outliers, int64 [n], n > 0; `torch.take(weight,
                index)` are their values.
            criterion: What selected them.

        Returns:
            [n] in the weight's data type and on its device.
        """

    def control(self, values: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """What a matched random control makes of its entries.

        By default each shrinks or grows by the ratio new / old of the outlier it stands for: what
        clips an outlier would leave an ordinary entry as it is, and the control would do nothing.
        An entry whose outlier has no finite ratio keeps its value.

        Args:
            values: Values of the control's entries [n].
            old: Values of the outliers [n].
            new: What the edit made of them [n].

        Returns:
            New values of the control's entries [n], in their data type.
        """
        return scaled_alike(values, old, new)

    def verb(self) -> str:
        """What it does, as a sentence says it: `zeroes` so many weights."""
        return f"edits by {self}"


@dataclass(frozen=True)
class Zero(Edit):
    """Sets outliers to 0. A control sets its entries to 0 too."""

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        """Zeros."""
        return weight.new_zeros(len(index))

    def control(self, values: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(values)

    def verb(self) -> str:
        """That it zeroes."""
        return "zeroes"


@dataclass(frozen=True)
class Epsilon(Edit):
    """Sets outliers to a small magnitude and keeps their signs; a control does the same.

    Args:
        value: The magnitude, rounded to the weight's data type.
    """

    value: float = 1e-6

    def __post_init__(self) -> None:
        """Refuses a magnitude that is not a positive, finite number."""
        check_positive("value", self.value)

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        """The magnitude with the outliers' signs."""
        return self._signed(read(weight, index))

    def control(self, values: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """The magnitude with the entries' own signs."""
        return self._signed(values)

    def verb(self) -> str:
        """To which magnitude it shrinks."""
        return f"shrinks to ±{self.value:g}"

    def _signed(self, values: Tensor) -> Tensor:
        return torch.full_like(values, self.value).copysign(values)


@dataclass(frozen=True)
class Clip(Edit):
    """Brings outliers to the nearer end of the criterion's interval of ordinary values.

    The end is rounded into the interval where the data type cannot hold it, so that nothing
    clipped is still an outlier by the same bounds. A control shrinks its entries by the same
    ratios, since none of them would be clipped.
    """

    def replace(self, weight: Tensor, index: Tensor, criterion: Criterion) -> Tensor:
        """The outliers, clamped."""
        low, high = criterion.bounds(weight)
        values = read(weight, index)
        return values.clamp(at_least(low, values.dtype), at_most(high, values.dtype))

    def verb(self) -> str:
        """That it clips."""
        return "clips"


def scaled_alike(values: Tensor, old: Tensor, new: Tensor) -> Tensor:
    """Values scaled by the ratios new / old, unchanged where a ratio is not finite [n]."""
    ratio = new.double() / old.double()
    scaled = (values.double() * ratio).to(values.dtype)
    return torch.where(ratio.isfinite(), scaled, values)
