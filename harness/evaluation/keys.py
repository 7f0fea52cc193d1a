"""What decides what a batch gives, in short: the same key, the same result."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# An odd factor, as the fractional part of the golden ratio gives it: multiplied by distinct odd
# numbers, values that differ in one place never have the same sum, whatever the place.
_FACTOR = -7046029254386353131
_PIECE = 2**22
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def key_of(*what: object) -> str:
    """A key of anything that JSON can hold, and of bytes: 32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    for part in what:
        raw = part if isinstance(part, bytes) else json.dumps(part, default=str).encode()
        digest.update(f"{len(raw)} ".encode() + raw)
    return digest.hexdigest()


def weights_key(model: PreTrainedModel) -> str:
    """A key of all weights and buffers of a model, or of this process's shares of them.

    Args:
        model: The model. Weights that were offloaded count by their shape.
    """
    tensors = dict(chain(model.named_parameters(), model.named_buffers()))
    sums = [_sums(tensor) for tensor in tensors.values()]
    # One copy from the device for all of them.
    values = torch.cat(sums).tolist() if sums else []
    about = {name: [str(tensor.dtype), list(tensor.shape)] for name, tensor in tensors.items()}
    return key_of(about, values)


def program_key(model: PreTrainedModel) -> str:
    """A key of what else decides what a model gives: its configuration, and what runs it.

    Args:
        model: The model.
    """
    import transformers

    config = model.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(name, None)  # where it lies, and what weights tell by themselves
    packages = [__version__, torch.__version__, transformers.__version__]
    attention = getattr(model.config, "_attn_implementation", None)
    return key_of(config, packages, type(model).__name__, model.device.type, attention)


def _sums(tensor: Tensor) -> Tensor:
    """Sums of a tensor's bits, each times a number of its own, modulo 2^64."""
    local: Any = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    if local.is_meta or not local.numel():
        return torch.zeros(0, dtype=torch.int64)
    flat = local.detach().contiguous().view(-1)
    bits = flat.view(_INTEGERS[flat.element_size()])
    if bits.numel() * bits.element_size() % 8 == 0 and bits.element_size() < 8:
        bits = bits.view(torch.int64)
    numbers = torch.arange(1, 2 * min(_PIECE, bits.numel()), 2, device=bits.device) * _FACTOR
    pieces: Iterable[Tensor] = bits.split(_PIECE)
    return torch.stack([(p.to(torch.int64) * numbers[: p.numel()]).sum() for p in pieces]).cpu()
