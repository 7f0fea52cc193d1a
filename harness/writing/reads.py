"""Where the functions of torch read parameters of which each row of a batch has its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

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
        parameters: These parameters, by their names.
        is_served: Whether the rows are given their own afterwards.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], is_served: Callable[[], bool]
    ) -> None:
        super().__init__()
        # By where they lie in memory: so views are known too, whoever has made them.
        spans = sorted((p.data_ptr(), p.data_ptr() + _span(p), n) for n, p in parameters.items())
        self._begins = [begin for begin, *_ in spans]
        self._ends = [end for _, end, _ in spans]
        self._names = [name for *_, name in spans]
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
        if not self._is_served() and any(isinstance(each, Tensor) for each in _flat([made])):
            for value in _flat([*args, *kwargs.values()]):
                name = self._name_of(value) if isinstance(value, Tensor) else None
                if name:
                    raise NotByRowError("it is read outside of a module of its own", [name])
        return made

    def _name_of(self, tensor: Tensor) -> str | None:
        place = bisect_right(self._begins, tensor.data_ptr()) - 1
        return self._names[place] if place >= 0 and tensor.data_ptr() < self._ends[place] else None


def _span(tensor: Tensor) -> int:
    """Bytes from the first to the last value."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * (1 + sum((size - 1) * step for size, step in steps))


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
