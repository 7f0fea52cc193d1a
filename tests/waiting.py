"""A mode in which nothing may ask for a number, as on a device that one would wait for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).parents[1]
LIBRARY = Path(torch.__file__).parent

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
    """Fails where the harness asks for a number, on the CPU too, where that takes no time.

    `.item()`, `bool()`, `int()`, `float()`, `.tolist()`, indexing by flags, and what copies to the
    host are found; `.numpy()`, which reads memory unseen, is not, and no GPU allows it. What other
    libraries ask, as models do, is theirs.

    Args:
        but: Names of functions that may ask, since what they ask of is on the host.
    """

    def __init__(self, but: Collection[str] = ()) -> None:
        super().__init__()
        self._but = but

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.name()
        by_flags = name == "aten::index.Tensor" and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if by_flags or name in WAITING or name.split(".")[0] in WAITING:
            refuse(name, self._but)
        return func(*args, **(kwargs or {}))


def refuse(what: str, but: Collection[str]) -> None:
    """Refuses what is asked for by the innermost function that is neither torch's nor of here."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and not path.is_relative_to(LIBRARY):
            ours = path.is_relative_to(ROOT) and ".venv" not in path.parts
            if ours and frame.f_code.co_name not in but:
                raise WaitsError(f"{what} in {path.relative_to(ROOT)}:{frame.f_lineno}")
            return
        frame = frame.f_back


def never_waiting(function: Callable[..., Any], but: Collection[str] = ()) -> Callable[..., Any]:
    """The function, failing where it asks for a number or copies to the host.

    Args:
        function: Any.
        but: Names of functions within it that may ask, since what they ask of is on the host.
    """

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            refuse(method.__name__, but)
            return method(*args, **named)

        return call

    def wrapped(*args: Any, **named: Any) -> Any:
        read = {name: getattr(Tensor, name) for name in ("cpu", "tolist", "numpy")}
        for name, method in read.items():
            setattr(Tensor, name, guarded(method))
        try:
            with NothingWaits(but):
                return function(*args, **named)
        finally:
            for name, method in read.items():
                setattr(Tensor, name, method)

    return wrapped
