"""The sparse, reversible result of criterion, edit and scope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from harness.errors import ConfigError
from harness.outliers.criteria import Criterion
from harness.outliers.edits import Edit
from harness.outliers.entries import bits, memory, positions, read


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

    def placed(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """Positions in the parameter's `memory` and new values as integers, on its device.

        Moved there once: applying a patch again costs neither a transfer nor a wait.
        """
        key = parameter.device, parameter.stride()
        if key not in self._placed:
            index = self.index.to(parameter.device)
            where = positions(index, self.shape, parameter.stride())
            self._placed[key] = where, bits(self.new.to(parameter.device))
        return self._placed[key]


@dataclass(frozen=True, eq=False)
class Patch:
    """Edits of a model's weights: kilobytes that can be put on and taken off again.

    An entry counts as edited because it was selected, also where its new value is its old one.

    Attributes:
        tensors: The edited parameters, each once.

    Raises:
        ValueError: If a name occurs twice.
    """

    tensors: tuple[TensorPatch, ...] = ()

    def __post_init__(self) -> None:
        """Refuses two sets of edits of one parameter."""
        if len(set(self.names)) < len(self.tensors):
            raise ValueError("a patch edits each parameter once")

    @property
    def entries(self) -> int:
        """How many entries are edited in all."""
        return sum(tensor.entries for tensor in self.tensors)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the edited parameters."""
        return tuple(tensor.name for tensor in self.tensors)

    def only(self, names: Iterable[str]) -> Patch:
        """The part of the patch that edits the parameters of these names."""
        wanted = set(names)
        return Patch(tuple(tensor for tensor in self.tensors if tensor.name in wanted))

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Edits the model's own weights for the length of a `with` block.

        Whatever the edited entries held when the block began they hold again after it, bit for
        bit, also if it ends by an error. Blocks may be nested.

        Args:
            model: The model; its weights stay where they are and are never copied.

        Raises:
            ConfigError: If a parameter is missing or of another shape or data type; nothing is
                changed then.
        """
        parameters = [find(model, tensor) for tensor in self.tensors]
        undo: list[tuple[Tensor, Tensor, Tensor]] = []
        try:
            for tensor, parameter in zip(self.tensors, parameters, strict=True):
                if tensor.entries:
                    where, new = tensor.placed(parameter)
                    values = memory(parameter)
                    undo.append((parameter, where, values.index_select(0, where)))
                    values.index_copy_(0, where, new)
            yield
        finally:
            _restore(undo)


def make_patch(parameters: Mapping[str, nn.Parameter], criterion: Criterion, edit: Edit) -> Patch:
    """Finds outliers and what becomes of them.

    Args:
        parameters: Where to look, by name, tied parameters once: what `Scope.select` gives.
        criterion: Which entries are outliers.
        edit: What becomes of them.

    Returns:
        The patch, on the CPU; parameters without outliers are not in it.

    Raises:
        ConfigError: If a parameter has no values here, because it was offloaded.
        TypeError: If a criterion or edit of your own gives tensors of another shape or data type
            than it should.
    """
    with torch.no_grad():
        found = (
            _tensor_patch(name, parameter.detach(), criterion, edit)
            for name, parameter in parameters.items()
        )
        return Patch(tuple(tensor for tensor in found if tensor is not None))


def find(model: nn.Module, tensor: TensorPatch) -> nn.Parameter:
    """The parameter that a part of a patch edits.

    Raises:
        ConfigError: If the model has none of this name, shape and data type.
    """
    try:
        parameter = model.get_parameter(tensor.name)
    except AttributeError:
        raise ConfigError("patch", tensor.name, "the model has no such parameter") from None
    if parameter.shape != tensor.shape:
        raise ConfigError(
            "patch",
            tensor.name,
            f"is of shape {list(parameter.shape)} in the model, {list(tensor.shape)} in the patch",
        )
    if parameter.dtype != tensor.new.dtype:
        raise ConfigError(
            "patch",
            tensor.name,
            f"is {parameter.dtype} in the model, {tensor.new.dtype} in the patch",
        )
    return parameter


def _tensor_patch(
    name: str, weight: Tensor, criterion: Criterion, edit: Edit
) -> TensorPatch | None:
    if weight.is_meta:
        raise ConfigError(
            "model.device_map", name, "was offloaded and cannot be edited; keep it on a device"
        )
    mask = criterion.select(weight)
    if mask.dtype != torch.bool or mask.shape != weight.shape:
        raise TypeError(
            f"{criterion} gave {mask.dtype} {list(mask.shape)} for {name}; "
            f"bool {list(weight.shape)} was due"
        )
    index = mask.flatten().nonzero()[:, 0]
    if not len(index):
        return None
    new = edit.replace(weight, index, criterion)
    if new.dtype != weight.dtype or new.shape != index.shape:
        raise TypeError(
            f"{edit} gave {new.dtype} {list(new.shape)} for {name}; "
            f"{weight.dtype} {list(index.shape)} was due"
        )
    return TensorPatch(
        name, tuple(weight.shape), index.cpu(), read(weight, index).cpu(), new.detach().cpu()
    )


def _restore(undo: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Writes saved entries back, the last first; an interruption waits until all are back."""
    try:
        while undo:
            parameter, where, old = undo[-1]
            # Viewed afresh: a view made in inference mode could not be written outside it.
            memory(parameter).index_copy_(0, where, old)
            undo.pop()
    except KeyboardInterrupt:
        _restore(undo)
        raise
