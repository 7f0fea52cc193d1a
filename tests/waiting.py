"""A mode in which nothing may ask for a number, as on a device that one would wait for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# What reads values on the host, or needs some to know how large its result is.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_dim",
    "aten::_unique2",
    "aten::repeat_interleave.Tensor",
}


class WaitsError(AssertionError):
    """Something was asked of a device."""


class NothingWaits(TorchDispatchMode):
    """Fails where a number is asked for, on the CPU too, where that takes no time.

    `.item()`, `bool()`, `int()`, `float()`, `.tolist()`, indexing by flags, and what copies to the
    host are found; `.numpy()`, which reads memory unseen, is not, and no GPU allows it.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.name()
        if name in WAITING or name.split(".")[0] in WAITING:
            raise WaitsError(name)
        by_flags = name == "aten::index.Tensor" and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if by_flags:
            raise WaitsError(name)
        return func(*args, **(kwargs or {}))


def never_waiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, failing where it asks for a number or copies to the host."""

    def wrapped(*args: Any, **named: Any) -> Any:
        def refuse(*_: object, **__: object) -> Tensor:
            raise WaitsError("cpu")

        read = {name: getattr(Tensor, name) for name in ("cpu", "tolist", "numpy")}
        for name in read:
            setattr(Tensor, name, refuse)
        try:
            with NothingWaits():
                return function(*args, **named)
        finally:
            for name, method in read.items():
                setattr(Tensor, name, method)

    return wrapped
