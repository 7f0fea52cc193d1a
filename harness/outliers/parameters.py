"""Which parameters a model has, tied ones counted once."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor, nn

from harness.base.shards import local


def storage_key(tensor: Tensor) -> Hashable:
    """A key that two tensors share exactly if they are the same view of the same memory.

    Args:
        tensor: Any tensor. One without memory of its own (on the meta device, or of no entries)
            is known by its identity instead, so keys hold only while the tensors live. Of one that
            is divided among processes the share here counts.

    Returns:
        Device, address of the storage, offset, shape and strides.
    """
    own = local(tensor).detach()
    if own.is_meta or own.numel() == 0:
        return id(tensor)
    return (
        own.device,
        own.untyped_storage().data_ptr(),
        own.storage_offset(),
        tuple(own.shape),
        own.stride(),
    )


def tied_names(model: nn.Module) -> dict[str, list[str]]:
    """The names of every floating-point parameter.

    Args:
        model: The model; its parameters may be on the meta device.

    Returns:
        All names of a parameter by its first one, in the model's order.
    """
    names: dict[Hashable, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.is_floating_point():
            names.setdefault(storage_key(parameter), []).append(name)
    return {aliases[0]: aliases for aliases in names.values()}


def unique_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The floating-point parameters of a model, tied ones once.

    Args:
        model: The model; its parameters may be on the meta device.

    Returns:
        Parameters by their first name, in the model's order.
    """
    return {name: model.get_parameter(name) for name in tied_names(model)}


def parameter_count(model: nn.Module) -> int:
    """The number of floating-point weights, tied ones once."""
    return sum(parameter.numel() for parameter in unique_parameters(model).values())
