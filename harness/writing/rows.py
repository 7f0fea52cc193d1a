"""Several models as rows of one batch: they share all weights but for the entries that were edited.

Each module with an edited parameter serves all rows at once, and the rows of each model get what
is its own: of a linear map or an embedding what its entries add (`harness.writing.sparse`); any
other module, if it is small, runs for the rows of each by itself, with its own parameters.

Legend: M models, R rows of all of them, model by model, T tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.outliers.parameters import storage_key
from harness.outliers.patch import Patch
from harness.outliers.tensor_patch import TensorPatch
from harness.writing.reads import Checked, NotByRowError, Within
from harness.writing.sparse import EmbeddingRows, Entries, LinearRows, entries_of

# A parameter of more entries is not copied for each model.
_SMALL = 2**16

_Forward = Callable[..., Any]


class Rows:
    """Models that go through the weights of one as rows of one batch.

    Args:
        model: The original, with its weights.
        changes: What each model sets, by its name; nothing for the original.

    Attributes:
        names: The models.
    """

    def __init__(self, model: nn.Module, changes: Mapping[str, Sequence[TensorPatch]]) -> None:
        self.names = tuple(changes)
        self._entries = entries_of(model, list(changes.values()))
        self._shared = Patch(tuple(each.left_out() for each in self._entries.values()))
        self._rows = self._tokens = 0
        self._reading = False
        self._served: set[str] = set()
        self._names: set[str] = set()
        self._forwards = list(self._serving(model))

    @contextmanager
    def applied(self, model: nn.Module, rows: int) -> Iterator[None]:
        """Lets a model serve all models for the length of a `with` block.

        Its weights are afterwards what they were, bit for bit, also after an error.

        Args:
            model: The model.
            rows: Rows of the batches that it gets, R: as many for each of the models, one after
                the other.

        Raises:
            NotByRowError: Within the block, where a module gets something else than such rows.
        """

        def begins(module: nn.Module, inputs: object, named: Mapping[str, Any]) -> None:
            self._tokens = named["input_ids"].shape[1]

        self._rows, self._reading = rows, False
        with self._shared.applied(model), ExitStack() as replaced:
            replaced.enter_context(model.register_forward_pre_hook(begins, with_kwargs=True))
            for module, forward in self._forwards:
                replaced.enter_context(_forward_replaced(module, forward(module.forward)))
            yield

    @contextmanager
    def checked(self, model: nn.Module) -> Iterator[None]:
        """Makes sure that what is run in a `with` block gives each row what is its own.

        Args:
            model: The model.

        Raises:
            NotByRowError: If an edited parameter is read elsewhere than where rows are then given
                their own, or if a module of one did not come by.
        """
        parameters = {each.name: model.get_parameter(each.name) for each in self._entries.values()}
        self._served.clear()
        with Checked(parameters, lambda: self._reading):
            yield
        if unserved := sorted(self._names - self._served):
            raise NotByRowError("it takes no part in a trial", unserved)

    def add(
        self,
        own: Callable[[], Tensor],
        layer: LinearRows | EmbeddingRows,
        inputs: Tensor,
        names: Sequence[str],
    ) -> Tensor:
        """Runs a layer on all rows and adds what is each model's own.

        Args:
            own: Gives the outputs of the weights that are shared [R, ..., O].
            layer: What adds the rest.
            inputs: Those of the layer, of all rows.
            names: The edited parameters.
        """
        self._check(inputs, names)
        self._reading = True
        outputs = own().contiguous()
        self._reading = False
        models = len(self.names)
        flat = (models, -1) if isinstance(layer, EmbeddingRows) else (models, -1, inputs.shape[-1])
        layer.add(inputs.reshape(flat), outputs.view(models, -1, outputs.shape[-1]))
        return outputs

    def _serving(
        self, model: nn.Module
    ) -> Iterator[tuple[nn.Module, Callable[[_Forward], _Forward]]]:
        """The modules with edited parameters, and what makes of a forward of each one by row."""
        from transformers.pytorch_utils import Conv1D

        for path, module in model.named_modules():
            own = dict(module.named_parameters(recurse=False))
            found = {
                name: replace(entries, name=f"{path}.{name}".lstrip("."))
                for name, parameter in own.items()
                if (entries := self._entries.get(storage_key(parameter))) is not None
            }
            if not found:
                continue
            names = [each.name for each in found.values()]
            self._names.update(names)
            # What is put in place of a module's own may do anything.
            forward = None if "forward" in module.__dict__ else type(module).forward
            if forward is nn.Linear.forward or forward is Conv1D.forward:
                is_transposed = forward is Conv1D.forward
                linear = LinearRows(found.get("weight"), found.get("bias"), is_transposed)
                yield module, partial(self._after, linear, names)
            elif isinstance(module, nn.Embedding) or any(own[n].numel() > _SMALL for n in found):
                mode = Within(self.add, {id(own[name]): each for name, each in found.items()})
                yield module, partial(self._within, mode)
            else:
                twins = [_twin(module, found, number) for number in range(len(self.names))]
                yield module, partial(self._apart, twins, names)

    def _after(self, linear: LinearRows, names: Sequence[str], own: _Forward) -> _Forward:
        """A linear layer: what is each model's own comes after its forward."""

        def forward(inputs: Tensor) -> Tensor:
            return self.add(lambda: own(inputs), linear, inputs, names)

        return forward

    def _within(self, mode: TorchFunctionMode, own: _Forward) -> _Forward:
        """What calls a linear map or an embedding and does more: it comes right after the call."""

        def forward(*inputs: Any, **named: Any) -> Any:
            with mode:
                return own(*inputs, **named)

        return forward

    def _apart(self, twins: Sequence[nn.Module], names: Sequence[str], own: _Forward) -> _Forward:
        """Any small module: each model has a copy of it with its own parameters."""

        def forward(*inputs: Any, **named: Any) -> Any:
            given = [self._parts(value, names) for value in inputs]
            other = {name: self._parts(value, names) for name, value in named.items()}
            outputs = [
                twin.forward(*(each[k] for each in given), **{n: p[k] for n, p in other.items()})
                for k, twin in enumerate(twins)
            ]
            if all(isinstance(output, tuple) for output in outputs):
                return tuple(torch.cat(each) for each in zip(*outputs, strict=True))
            return torch.cat(outputs)

        return forward

    def _parts(self, value: Any, names: Sequence[str]) -> Sequence[Any]:
        """An argument of a module, for each of the models."""
        if isinstance(value, Tensor):
            self._check(value, names)
            return value.chunk(len(self.names))
        if value is None or isinstance(value, bool | int | float):
            return [value] * len(self.names)
        raise NotByRowError(f"its module gets a {type(value).__name__}", names)

    def _check(self, tensor: Tensor, names: Sequence[str]) -> None:
        """Refuses what does not hold all rows, one after the other."""
        self._served.update(names)
        # Two dimensions are ids by row, or features of all tokens.
        is_flat = tensor.ndim == 2 and tensor.is_floating_point()
        rows = self._rows * self._tokens if is_flat else self._rows
        if tensor.ndim < 2 or len(tensor) != rows:
            shape = list(tensor.shape)
            raise NotByRowError(f"its module gets {shape} instead of {self._rows} rows", names)


def _twin(module: nn.Module, found: Mapping[str, Entries], number: int) -> nn.Module:
    """A module that shares everything with another but the parameters that a model has changed."""
    twin = copy.copy(module)
    own = dict(module.named_parameters(recurse=False))
    changed = {name: entries.whole(own[name], number) for name, entries in found.items()}
    twin.__dict__["_parameters"] = module.__dict__["_parameters"] | changed
    return twin


@contextmanager
def _forward_replaced(module: nn.Module, forward: _Forward) -> Iterator[None]:
    # What accelerate keeps on an instance has to come back.
    own = module.__dict__.get("forward")
    try:
        module.forward = forward
        yield
    finally:
        if own is None:
            module.__dict__.pop("forward", None)
        else:
            module.forward = own
