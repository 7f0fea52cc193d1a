"""The edited entries of one parameter."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from harness.base import shards
from harness.errors import ConfigError
from harness.outliers.entries import bits, positions


@dataclass(frozen=True, eq=False)
class TensorPatch:
    """The edited entries of one parameter.

    Attributes:
        name: The parameter's name.
        shape: Its shape.
        index: Row-major positions of the entries, int64 [n], ascending.
        old: Their values in the weights that the patch was made for [n].
        new: What they become [n], of the same data type.

    Raises:
        ValueError: If positions are unsorted, repeated or outside the shape, or the tensors do
            not fit one another.
    """

    name: str
    shape: tuple[int, ...]
    index: Tensor
    old: Tensor
    new: Tensor
    _placed: dict[object, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        """Refuses what could write outside the parameter or twice to one entry."""
        if self.index.dtype != torch.int64 or self.index.ndim != 1:
            raise ValueError(f"{self.name}: positions must be int64 in one dimension")
        if not self.index.shape == self.old.shape == self.new.shape:
            raise ValueError(f"{self.name}: as many old and new values as positions are needed")
        if self.old.dtype != self.new.dtype:
            raise ValueError(f"{self.name}: old and new values must be of one data type")
        inside = ((self.index >= 0) & (self.index < prod(self.shape))).all()
        if not inside or not (self.index.diff() > 0).all():
            raise ValueError(f"{self.name}: positions must ascend within the shape")

    @property
    def entries(self) -> int:
        """How many entries are edited."""
        return len(self.index)

    def parameter_of(self, model: nn.Module) -> nn.Parameter:
        """The parameter that is edited.

        Raises:
            ConfigError: If the model has none of this name, shape and data type.
        """
        try:
            shards.let_go(model, [self.name])
            parameter = model.get_parameter(self.name)
        except AttributeError:
            raise ConfigError("patch", self.name, "the model has no such parameter") from None
        if parameter.shape != self.shape:
            there, here = list(parameter.shape), list(self.shape)
            reason = f"is of shape {there} in the model, {here} in the patch"
            raise ConfigError("patch", self.name, reason)
        if parameter.dtype != self.new.dtype:
            reason = f"is {parameter.dtype} in the model, {self.new.dtype} in the patch"
            raise ConfigError("patch", self.name, reason)
        return parameter

    def placed(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the parameter's `memory` and new values as integers, on its device.

        Of a parameter that is divided among processes, those in the share that lies here. Moved
        there once: applying a patch again costs neither a transfer nor a wait.
        """
        own = shards.local(parameter).detach()
        key = own.device, own.stride(), shards.layout(parameter)
        if key not in self._placed:
            here, index = shards.share(self.index, parameter)
            new = self.new[here] if len(index) < self.entries else self.new
            self._placed[key] = positions(index, own), bits(new.to(own.device, non_blocking=True))
        return self._placed[key]
