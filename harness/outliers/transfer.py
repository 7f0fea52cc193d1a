"""From devices to the host, many tensors by one copy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.outliers.entries import bits
from harness.outliers.pieces import is_near


def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors on the CPU, by one wait for each device and width of data type.

    Args:
        tensors: Each in one dimension, on any device and of any data type.

    Returns:
        As many; those that lie there already as they are.
    """
    found = list(tensors)
    groups: dict[tuple[torch.device, int], list[int]] = {}
    for number, tensor in enumerate(tensors):
        if not is_near(tensor):
            groups.setdefault((tensor.device, tensor.element_size()), []).append(number)
    for members in groups.values():
        parts = [bits(tensors[number].detach()) for number in members]
        copied = torch.split(torch.cat(parts).cpu(), [len(part) for part in parts])
        for number, part in zip(members, copied, strict=True):
            found[number] = part.view(tensors[number].dtype)
    return found
