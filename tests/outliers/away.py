"""Tensors on the CPU that stand in for tensors on a device, and what the host waits for of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.outliers import pieces, transfer

_LEAVING = {"cpu", "tolist", "numpy", "__array__"}
_WAITING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "_unique2"),
    *("unique_dim", "unique_consecutive", "repeat_interleave", "is_nonzero"),
}

waits: Counter[str] = Counter()
"""How often each operation had the host wait for a device."""
sizes: list[int] = [0]
"""Bytes of what operations made, but for bools."""
_watched: list[bool] = []  # whether it is counted, if not empty: what is counted takes its time


class _Watching(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name.startswith(("index", "_index")) and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for index in (args[1] if isinstance(args[1], list) else [])
        )
        if name in _WAITING or by_mask:
            waits[name] += 1
        made = func(*args, **(kwargs or {}))
        given = {part.untyped_storage().data_ptr() for part in args if isinstance(part, Tensor)}
        if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in given:
            sizes.append(made.nbytes if made.dtype != torch.bool else 0)
        return made


class Away(Tensor):
    """A tensor of a device: what is made of it lies there too, until it is copied to the host."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in _LEAVING:
            waits[func.__name__] += 1
            with torch._C.DisableTorchFunctionSubclass():
                found = func(*args, **(kwargs or {}))
            return found.as_subclass(Tensor) if isinstance(found, Tensor) else found
        with _Watching() if _watched else nullcontext():
            return super().__torch_function__(func, types, args, kwargs)


def away(model: nn.Module) -> nn.Module:
    """A model of the same parameters, which lie on the device."""
    moved = nn.Module()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        values = parameter.detach().as_subclass(Away)
        moved.register_parameter(name, nn.Parameter(values, requires_grad=False))
    return moved


@contextmanager
def device(monkeypatch: pytest.MonkeyPatch, piece: int, watched: bool = True) -> Iterator[None]:
    """Such tensors are taken for those of a device; its pieces are of so many entries."""
    waits.clear()
    sizes[:] = [0]
    _watched[:] = [True] if watched else []
    with monkeypatch.context() as patched:
        for module in (pieces, transfer):
            patched.setattr(module, "is_near", lambda tensor: not isinstance(tensor, Away))
        patched.setattr(pieces, "PIECE_AWAY", piece)
        yield
