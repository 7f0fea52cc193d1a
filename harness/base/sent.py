"""What is on its way from a device to the host."""

from __future__ import annotations

import torch
from torch import Tensor


def is_awaited(device: torch.device) -> bool:
    """Whether a number of a device would have to be waited for."""
    return device.type != "cpu"


class Sent:
    """A copy of a tensor on the host, for which nothing waits before it is read.

    What a device is given to do after it was sent, it may do meanwhile.

    Args:
        tensor: The tensor; one that is on the host is not copied.
    """

    def __init__(self, tensor: Tensor) -> None:
        # Elsewhere a copy that is not waited for would be read before it is whole.
        is_sent = tensor.device.type == "cuda"
        self._done: torch.cuda.Event | None = None
        self._copy = tensor.detach().to("cpu", non_blocking=is_sent)
        if is_sent:
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record(torch.cuda.current_stream(tensor.device))

    def read(self) -> Tensor:
        """The copy, once it is whole."""
        if self._done is not None:
            self._done.synchronize()
            self._done = None
        return self._copy
