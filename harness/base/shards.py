"""Models that are divided among processes: all that is known of it stands here.

Two ways are known. Under *FSDP2* each process keeps a share of every parameter; those of a layer
are gathered when it runs and let go after it, and each process has batches of its own. Under
*tensor parallelism* a process computes with its share, so that some modules put out a share of
their channels; the processes of such a group have the same batch. Parameters are `DTensor` in both.

What asks for values of a parameter that are not here is asked of every process at the same time:
all have to call it, equally often and in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

# What transformers calls modules that put out their share of the channels: linear layers that are
# cut by columns, and norms behind them that see the heads of this process alone.
_DIVIDING = ("colwise", "packed_colwise", "replicated_with_grad_allreduce")
_TENSOR_PARALLEL = "tp"


def local(tensor: Tensor) -> Tensor:
    """The share of a tensor that lies in this process; the tensor itself where it is not divided.

    Returns:
        A view: writing to it writes to the tensor.
    """
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered in each process; the tensor itself where it is not divided."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class Wholes(Mapping[str, Tensor]):
    """Parameters, each gathered when it is asked for, so that one at a time is whole.

    Args:
        parameters: By name, divided or not.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = parameters

    def __getitem__(self, name: str) -> Tensor:
        return whole(self._parameters[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)


def stored(model: nn.Module) -> float:
    """Bytes of a model's parameters in one process, on average: the same number in each."""
    parts = ((p, p.device_mesh.size() if isinstance(p, DTensor) else 1) for p in model.parameters())
    return sum(parameter.nbytes / processes for parameter, processes in parts)


def layout(tensor: Tensor) -> object:
    """What is the same for tensors of which the same entries lie in this process."""
    if not isinstance(tensor, DTensor):
        return None
    return tensor.device_mesh, tensor.placements, tensor.shape


def share(index: Tensor, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Which entries of a tensor lie in this process, and where in its share.

    Args:
        index: Row-major positions in the whole tensor, int64 [n].
        tensor: The tensor, cut along any dimensions by any axes of a mesh, evenly or not.

    Returns:
        Whether each lies here, bool [n], and row-major positions in the share of those that do;
        on the index's device.
    """
    here, rest = torch.ones_like(index, dtype=torch.bool), index
    if not isinstance(tensor, DTensor):
        return here, index
    found, step = torch.zeros_like(index), 1
    for dim in reversed(range(tensor.ndim)):
        own = _own_coordinates(tensor, dim).to(index.device)
        places = own.new_full((tensor.shape[dim],), -1)
        places[own] = torch.arange(len(own), device=own.device)
        place = places[rest % tensor.shape[dim]]
        rest = rest // tensor.shape[dim]
        here &= place >= 0
        found += place * step
        step *= len(own)
    return here, found[here]


def _own_coordinates(tensor: DTensor, dim: int) -> Tensor:
    """Which of the coordinates along a dimension this process has, in the order of its share."""
    mesh, ndim = tensor.device_mesh, tensor.ndim
    # Cut as the tensor is, but along one dimension: what is cut are the coordinates themselves.
    cuts = [p if _cut(p, ndim) == dim else Replicate() for p in tensor.placements]
    shape = [1] * ndim
    shape[dim] = tensor.shape[dim]
    coordinates = torch.arange(tensor.shape[dim], device=tensor.device).view(shape)
    return distribute_tensor(coordinates, mesh, cuts, src_data_rank=None).to_local().flatten()


def _cut(placement: Any, ndim: int) -> int | None:
    """The dimension that is divided along an axis of the mesh; None where none is."""
    dim = getattr(placement, "dim", None)
    return None if dim is None else dim % ndim


def collect(values: Tensor, here: Tensor, tensor: Tensor) -> Tensor:
    """Values of some entries in every process, from those of each.

    Args:
        values: Integers, of the entries that lie here [m].
        here: Whether each entry lies here, bool [n].
        tensor: The tensor that they are of.

    Returns:
        Integers of the same type [n]; the values themselves where the tensor is not divided.
    """
    if not isinstance(tensor, DTensor):
        return values
    # Of each entry one process has the value and the others add nothing.
    collected = torch.zeros(len(here), dtype=torch.int64, device=values.device)
    collected[here.to(values.device)] = values.long()
    for axis, placement in enumerate(tensor.placements):
        if _cut(placement, tensor.ndim) is not None:
            dist.all_reduce(collected, group=tensor.device_mesh.get_group(axis))
    return collected.to(values.dtype)


def let_go(model: nn.Module, names: Iterable[str] | None = None) -> None:
    """Has a model under FSDP2 keep its shares alone, where layers are still gathered.

    What is gathered is a copy: edits of the shares would not be seen, and edits of it be lost.

    Args:
        model: The model; nothing is done to one that is not under FSDP2.
        names: The parameters in question; None for all.
    """
    if not isinstance(model, FSDPModule):
        return
    if names is None or any(not isinstance(model.get_parameter(n), DTensor) for n in names):
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def gather(model: nn.Module) -> None:
    """Gathers what FSDP2 gathers when the model as a whole runs, where a part is to run alone.

    Args:
        model: The model; nothing is done to one that is not under FSDP2.
    """
    if isinstance(model, FSDPModule):
        model.unshard()


def class_of(module: nn.Module) -> type[nn.Module]:
    """The class that a module had before FSDP2 gave it one of its own."""
    classes: list[type[nn.Module]] = [c for c in type(module).__mro__ if issubclass(c, nn.Module)]
    return next(cls for cls in classes if not issubclass(cls, FSDPModule))


def is_divided(model: nn.Module) -> bool:
    """Whether several processes hold a share of the model each."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def most(model: nn.Module, numbers: Sequence[int]) -> list[int]:
    """The largest that any process has of each of some numbers.

    Processes that run a model under FSDP2 have to run it equally often, whatever batches they have:
    how often is agreed upon by this.

    Args:
        model: The model; where it is not under FSDP2, the numbers are what they are.
        numbers: As many in every process.
    """
    if not isinstance(model, FSDPModule) or not numbers:
        return list(numbers)
    return _largest(model, numbers)


def in_any_share(model: nn.Module, flags: Sequence[bool]) -> list[bool]:
    """What is true of a share of the model in any process.

    Args:
        model: The model; where it is not divided, the flags are what they are.
        flags: As many in every process.
    """
    divided = any(isinstance(parameter, DTensor) for parameter in model.parameters())
    if not divided and not isinstance(model, FSDPModule):
        return list(flags)
    return [bool(flag) for flag in _largest(model, flags)]


def _largest(model: nn.Module, numbers: Sequence[int]) -> list[int]:
    device = next(model.parameters()).device
    largest = torch.tensor(numbers, dtype=torch.int64, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return [int(number) for number in largest.tolist()]


class ChannelGroup:
    """The processes of tensor parallelism, each with a share of the channels of some modules.

    Args:
        group: The processes.
        device: Where tensors have to lie that these processes exchange.
    """

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self._group = group
        self._device = device

    def each(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers of every process, in their order.

        Args:
            numbers: [...], of one shape in all processes.

        Returns:
            [processes, ...], the same in each of them.
        """
        own = torch.from_numpy(numbers).to(self._device)
        found = [torch.empty_like(own) for _ in range(dist.get_world_size(self._group))]
        dist.all_gather(found, own, group=self._group)
        gathered: NDArray[np.float64] = torch.stack(found).cpu().numpy()
        return gathered


def channel_group(model: nn.Module) -> ChannelGroup | None:
    """The processes with which this one shares the channels of a model; None where it has all."""
    for parameter in model.parameters():
        if isinstance(parameter, DTensor):
            mesh = parameter.device_mesh
            if _TENSOR_PARALLEL in (mesh.mesh_dim_names or ()):
                return ChannelGroup(mesh.get_group(_TENSOR_PARALLEL), parameter.device)
    return None


def puts_out_share(model: nn.Module) -> Callable[[str], bool]:
    """Tells of a module's name whether it puts out a share of its channels.

    Args:
        model: A model under tensor parallelism.
    """
    plan: Mapping[str, str] = getattr(model, "tp_plan", None) or {}

    def puts_out(name: str) -> bool:
        return plan.get(re.sub(r"\.\d+(?=\.|$)", ".*", name)) in _DIVIDING

    return puts_out
