"""What models differ by in a parameter, and what it adds to the outputs of the rows of each.

The weights that all share hold zeros wherever any model was edited, and each model, the original
too, adds what its own entries give. Were the difference of two weights added instead, a large
output of the original would have to cancel out of that of a variant without the weight behind it,
and leave its rounding: in bfloat16 more than is left of it.

Legend: M models, n entries that any of them edits, C columns (rows of a model by tokens), I inputs,
O outputs, D features.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.outliers.entries import read
from harness.outliers.parameters import storage_key
from harness.outliers.tensor_patch import TensorPatch

# So few entries are added one by one; more are summed up by output first, which takes more calls
# (on two cores 37 against 80 us for 80 entries, 95 against 139 for 300, 558 against 290 for 3,000).
_FEW = 256


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a parameter that any of some models edits.

    Attributes:
        name: One of the parameter's names.
        shape: Its shape.
        index: Row-major positions, int64 [n], ascending, on the parameter's device.
        values: What each model has there [M, n], of the parameter's data type.
    """

    name: str
    shape: tuple[int, ...]
    index: Tensor
    values: Tensor

    def left_out(self) -> TensorPatch:
        """What the shared weights hold: zeros."""
        zeros = torch.zeros_like(self.values[0])
        return TensorPatch(self.name, self.shape, self.index, zeros, zeros)

    def whole(self, parameter: Tensor, model: int) -> Tensor:
        """A copy of the parameter as a model has it."""
        flat = parameter.detach().flatten().clone()
        flat[self.index] = self.values[model]
        return flat.view(self.shape)


def entries_of(
    model: nn.Module, changes: Sequence[Sequence[TensorPatch]]
) -> dict[Hashable, Entries]:
    """What some models have where any of them is edited.

    Args:
        model: The original, with its weights.
        changes: What each model sets.

    Returns:
        By the storage of the parameter, so that it is found under each of its names.
    """
    parameters: dict[Hashable, nn.Parameter] = {}
    places: dict[Hashable, list[tuple[int, TensorPatch]]] = {}
    for number, tensors in enumerate(changes):
        for tensor in tensors:
            if tensor.entries:
                parameter = tensor.parameter_of(model)
                key = storage_key(parameter)
                parameters[key] = parameter
                places.setdefault(key, []).append((number, tensor))
    found = {}
    for key, parameter in parameters.items():
        where = [(k, tensor, tensor.index.to(parameter.device)) for k, tensor in places[key]]
        index, _ = _runs(torch.cat([each for *_, each in where]).sort().values)
        values = read(parameter, index).repeat(len(changes), 1)
        for number, tensor, own in where:
            values[number, torch.searchsorted(index, own)] = tensor.new.to(parameter.device)
        found[key] = Entries(where[0][1].name, tuple(parameter.shape), index, values)
    return found


class LinearRows:
    """What the entries of a linear layer add to its outputs.

    Args:
        weight: Those of its weight [O, I]; None where none was edited.
        bias: Those of its bias [O]; None where none was edited.
        transposed: Whether the weight is [I, O].
    """

    def __init__(
        self, weight: Entries | None, bias: Entries | None, transposed: bool = False
    ) -> None:
        self._bias = bias
        self._weight = weight
        if weight is None:
            return
        models, columns = len(weight.values), weight.shape[1]
        one, other = weight.index // columns, weight.index % columns
        outputs, inputs = (other, one) if transposed else (one, other)
        order = outputs.argsort(stable=True)
        self._outputs, self._inputs = outputs[order], inputs[order]
        self._values = weight.values[:, order].to(_exact(weight.values.dtype))
        # One by one they are rounded one by one, and on a GPU in whatever order.
        is_exact = self._values.dtype == weight.values.dtype
        self._is_few = is_exact and len(order) <= _FEW and order.device.type == "cpu"
        if self._is_few:
            return
        # A bag sums what the entries of one output add to one model.
        self._touched, sizes = _runs(self._outputs)
        number = torch.arange(models, device=outputs.device)[:, None]
        width = weight.shape[0 if transposed else 1]
        self._samples = (self._inputs + number * width).flatten().int()
        self._bags = (sizes.cumsum(0) - sizes + number * len(order)).flatten().int()

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Adds what the models' own entries give.

        Args:
            inputs: [M, C, I].
            outputs: What the shared weights give [M, C, O], to which is added in place.
        """
        if self._weight is not None and self._is_few:
            added = inputs.index_select(2, self._inputs) * self._values[:, None]
            outputs.index_add_(2, self._outputs, added)
        elif self._weight is not None:
            self._add_many(inputs, outputs)
        if self._bias is not None:
            added = self._bias.values[:, None].expand(-1, outputs.shape[1], -1)
            outputs.index_add_(2, self._bias.index, added)

    def _add_many(self, inputs: Tensor, outputs: Tensor) -> None:
        models, columns, width = inputs.shape
        by_input = inputs.transpose(1, 2).reshape(models * width, columns).to(self._values.dtype)
        sums = torch.embedding_bag(
            by_input, self._samples, self._bags, False, 0, False, self._values.flatten()
        )[0]
        added = sums.view(models, -1, columns).transpose(1, 2)
        whole = outputs.index_select(2, self._touched) + added
        outputs.index_copy_(2, self._touched, whole.to(outputs.dtype))


class EmbeddingRows:
    """What the entries of an embedding [V, D] add to the embeddings that are looked up.

    Args:
        weight: The entries.
    """

    def __init__(self, weight: Entries) -> None:
        vocabulary, width = weight.shape
        self._features = weight.index % width
        self._values = weight.values
        token, sizes = _runs(weight.index // width)
        ends = sizes.cumsum(0)
        # The last of the slots is empty: that of all tokens without entries.
        self._slots = torch.full((vocabulary,), len(token), device=token.device)
        self._slots[token] = torch.arange(len(token), device=token.device)
        self._starts = torch.cat([ends - sizes, ends[-1:], ends[-1:]])
        self._most = torch.arange(int(sizes.max()), device=token.device)

    def add(self, ids: Tensor, outputs: Tensor) -> None:
        """Adds the models' own entries, which stand where the shared weights hold zeros.

        Args:
            ids: Token ids [M, C].
            outputs: Their embeddings by the shared weights [M, C, D], to which is added in place.
        """
        slots = self._slots[ids]
        place = self._starts[slots][..., None] + self._most
        exists = place < self._starts[slots + 1][..., None]
        place = place.where(exists, 0)
        values = self._values.gather(1, place.flatten(1)).view_as(place)
        outputs.scatter_add_(2, self._features[place], values.where(exists, 0))


def _runs(ascending: Tensor) -> tuple[Tensor, Tensor]:
    """The different values of a tensor [n] in ascending order, and how often each occurs."""
    begins = (ascending.diff(prepend=ascending[:1] - 1) > 0).nonzero()[:, 0]
    return ascending[begins], begins.diff(append=begins.new_tensor([len(ascending)]))


def _exact(dtype: torch.dtype) -> torch.dtype:
    """What sums of a data type are made in."""
    return torch.promote_types(dtype, torch.float32)
