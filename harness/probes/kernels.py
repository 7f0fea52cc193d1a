"""Measures on a GPU by kernels in Triton: two launches to an output.

A decoder block's takes one more for each byte of a value, and one, for its massive activations;
they read it only where a text has a magnitude that can be one.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from harness.kernels import triton_massive, triton_moments
from harness.probes.massive import Massive
from harness.probes.moments import Thresholds
from harness.probes.table import Table


class ByTriton:
    """Looks at matrices by kernels in Triton.

    Args:
        thresholds: What counts as an outlier.
        massive: What counts as a massive activation.
    """

    def __init__(self, thresholds: Thresholds, massive: Massive) -> None:
        self._settings = (thresholds.absolute, thresholds.sigmas, massive.absolute, massive.ratio)
        self._partial = torch.empty(0)

    def look(self, values: Tensor, table: Table, numbers: Tensor, *, massive: bool) -> None:
        """Measures the parts of a matrix.

        Args:
            values: The matrix [n, D], of a floating-point type; one that lies apart is copied.
            table: The parts.
            numbers: Where to write what is found, zeros, fp64 [P, `layout.COLUMNS`].
            massive: Whether to count massive activations.
        """
        values, stretches = values.contiguous(), table.stretches
        settings = _settings(self._settings, values.device)
        if len(self._partial) != len(stretches):
            # Used again by every output: what is done with one lies before the next.
            self._partial = numbers.new_empty(len(stretches), triton_moments.PARTIAL)
        triton_moments.look(values, stretches, self._partial, settings, numbers)
        if massive:
            shape = (table.shape[0], values.element_size(), triton_massive.BYTES)
            counts = torch.zeros(shape, dtype=torch.int32, device=values.device)
            triton_massive.count_massive(
                values, stretches, self._partial, settings, counts, numbers
            )


@lru_cache(maxsize=16)
def _settings(settings: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(settings, dtype=torch.float64).to(device, non_blocking=True)
