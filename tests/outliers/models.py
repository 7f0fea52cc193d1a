"""Small modules with the awkward parameters that real models have."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Awkward(nn.Module):
    """Tied, transposed, 0-d, 1-d, 3-d, low-precision and integer parameters side by side."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.embedding = nn.Parameter(random(12, 6))
        self.head = self.embedding
        self.view = nn.Parameter(self.embedding.data)  # another object, the same memory
        self.transposed = nn.Parameter(random(5, 7).t())
        self.sliced = nn.Parameter(random(8, 9)[::2, 1::3])
        self.scale = nn.Parameter(random(1)[0].clone())
        self.bias = nn.Parameter(random(11))
        self.experts = nn.Parameter(random(3, 4, 5).permute(2, 0, 1))
        self.low = nn.Parameter(random(6, 6).half())
        self.bfloat = nn.Parameter(random(6, 6).bfloat16())
        self.wide = nn.Parameter(random(6, 6).double())
        self.empty = nn.Parameter(torch.empty(0, 4))
        self.count = nn.Parameter(torch.arange(4), requires_grad=False)


UNIQUE = [
    "embedding",
    "transposed",
    "sliced",
    "scale",
    "bias",
    "experts",
    "low",
    "bfloat",
    "wide",
    "empty",
]


def image(model: nn.Module) -> dict[str, bytes]:
    """Every parameter's bytes, by name."""
    return {
        name: bytes(parameter.detach().contiguous().reshape(-1).view(torch.uint8).tolist())
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def weights(**tensors: Tensor) -> nn.Module:
    """A module with these parameters."""
    module = nn.Module()
    for name, tensor in tensors.items():
        module.register_parameter(name, nn.Parameter(tensor))
    return module
