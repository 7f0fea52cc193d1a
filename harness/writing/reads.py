"""Where the functions of torch read parameters of which each row of a batch has its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from harness.outliers.parameters import storage_key
from harness.writing.sparse import EmbeddingRows, Entries, LinearRows

Add = Callable[
    [Callable[[], Tensor], LinearRows | EmbeddingRows, Tensor, Sequence[str]],
    Tensor,
]


class NotByRowError(Exception):
    """A model does not run so that rows of a batch have parameters of their own.

    Args:
        why: In one line.
        parameters: Names of the parameters that are in the way.
    """

    def __init__(self, why: str, parameters: Sequence[str]) -> None:
        super().__init__(": ".join([*([", ".join(parameters)] if parameters else []), why]))
        self.parameters = parameters


class Within(TorchFunctionMode):
    """Adds what is each model's own to the linear maps and embeddings of one module.

    Args:
        add: Runs such a layer on all rows and adds the rest, see `Rows.add`.
        entries: The edited parameters of the module, by their identity.
    """

    def __init__(self, add: Add, entries: Mapping[int, Entries]) -> None:
        super().__init__()
        self._add = add
        self._entries = entries
        self._layers: dict[Hashable, LinearRows | EmbeddingRows] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        own = partial(func, *args, **kwargs)
        if func not in (F.linear, F.embedding):
            return own()
        given = [*args, *kwargs.values()]
        inputs, weight = given[:2]
        bias = given[2] if func is F.linear and len(given) > 2 else None
        of_weight, of_bias = self._entries.get(id(weight)), self._entries.get(id(bias))
        names = [each.name for each in (of_weight, of_bias) if each is not None]
        if not names:
            return own()
        key = func, *names
        if key not in self._layers:
            self._layers[key] = (
                EmbeddingRows(of_weight)
                if func is F.embedding and of_weight
                else LinearRows(of_weight, of_bias)
            )
        return self._add(own, self._layers[key], inputs, names)


class Checked(TorchFunctionMode):
    """Refuses to make a tensor of a parameter of which rows have their own.

    Args:
        names: Names of these parameters by storage.
        is_served: Whether the rows are given their own afterwards.
    """

    def __init__(self, names: Mapping[Hashable, str], is_served: Callable[[], bool]) -> None:
        super().__init__()
        self._names = names
        self._is_served = is_served

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if isinstance(made, Tensor | tuple | list) and not self._is_served():
            for value in (*args, *kwargs.values()):
                name = isinstance(value, nn.Parameter) and self._names.get(storage_key(value))
                if name:
                    raise NotByRowError("it is read outside of a module of its own", [name])
        return made
