"""Measures on any device by plain operations, none of which waits for it.

Values are divided by a magnitude of their part and shifted by its mean, whatever they are: whether
that is needed would have to be asked for.

Legend: B texts of T tokens, n = B * T rows of D features, P parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.kernels import layout
from harness.probes.massive import Massive
from harness.probes.moments import Thresholds
from harness.probes.table import Table

# As in `moments.Moments`: below this share of the mean of x² a variance is rounding.
_VARIANCE_LEFT = 1e-14

_BITS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}


@dataclass(frozen=True)
class ByOperations:
    """Looks at matrices by plain operations.

    Args:
        thresholds: What counts as an outlier.
        massive: What counts as a massive activation.
    """

    thresholds: Thresholds
    massive: Massive

    def look(self, values: Tensor, table: Table, numbers: Tensor, *, massive: bool) -> None:
        """Measures the parts of a matrix.

        Args:
            values: The matrix [n, D], of a floating-point type.
            table: The parts.
            numbers: Where to write what is found, zeros [P, `layout.COLUMNS`].
            massive: Whether to count massive activations.
        """
        parts, wide = len(table.keys), numbers.dtype
        x = values if values.dtype == torch.float64 else values.float()
        width = x.shape[1]
        # With one more, which is padding.
        member = table.parts == torch.arange(parts + 1, device=x.device)[:, None]

        def by_part(rows: Tensor) -> Tensor:
            return torch.where(member, rows, 0).sum(1)

        def by_row(of_parts: Tensor) -> Tensor:
            return of_parts[table.parts][:, None]

        largest = torch.where(member, x.abs().amax(1), 0).amax(1)
        finite = largest.isfinite() & (largest > 0)
        scale = torch.where(finite, largest.log2().floor().exp2(), 1)
        count = (member.sum(1) * width).clamp(min=1).to(wide)
        y = x / by_row(scale)
        center = (by_part(y.sum(1).to(wide)) / count).to(x.dtype)
        center = torch.where(finite, center, 0)
        y -= by_row(center)
        square = y * y
        powers = [y, square, square * y, square * square]
        sums = [by_part(power.sum(1).to(wide)) for power in powers]
        mean = sums[0] / count
        variance = sums[1] / count - mean * mean
        second = variance + (center + mean) ** 2
        variance = torch.where(variance < _VARIANCE_LEFT * second, 0, variance)
        reach = self.thresholds.sigmas * variance.sqrt()
        # Of equal values none lies beyond, whatever their mean is rounded to.
        reach = torch.where(reach > 0, reach, torch.inf).to(x.dtype)
        outside = (y - by_row(mean.to(x.dtype))).abs() > by_row(reach)
        beyond = x.abs() > self.thresholds.absolute
        whole = [member.sum(1), by_part(beyond.sum(1)), by_part(outside.sum(1))]
        whole.append(
            by_part(self._massive(values, table)) if massive else torch.zeros_like(whole[0])
        )
        integers = torch.int32 if wide == torch.float32 else torch.int64
        found = torch.stack([largest, center * scale, scale, *sums], 1)[:-1]
        numbers[:, layout.LARGEST :] = found.to(wide)
        numbers.view(integers)[:, : layout.WHOLE] = torch.stack(whole, 1)[:-1].to(integers)

    def _massive(self, values: Tensor, table: Table) -> Tensor:
        """How many massive activations each row holds [n]."""
        rows, _ = table.shape
        magnitudes = values.abs().reshape(rows, -1)
        width = values.shape[1]
        there = (table.parts < len(table.keys)).reshape(rows, -1)
        rank = (there.sum(1) * width + 1) // 2
        there = there.repeat_interleave(width, 1)
        # The lower median bit by bit: as many are below it as are below its rank.
        bits = magnitudes.view(_BITS.get(values.dtype, torch.int64))
        known = torch.zeros(rows, dtype=torch.int64, device=values.device)
        for bit in reversed(range(8 * values.element_size() - 1)):
            trial = known + (1 << bit)
            below = ((bits < trial.to(bits.dtype)[:, None]) & there).sum(1)
            known = torch.where(below < rank, trial, known)
        median = known.to(bits.dtype).view(values.dtype)
        x, real = magnitudes, median
        if values.dtype != torch.float64:
            x, real = magnitudes.float(), median.float()
        largest = torch.where(there, x, 0).amax(1)
        # Where a value is not a number, nobody knows the median.
        bound = torch.where(largest.isnan(), torch.inf, real * self.massive.ratio)
        flags = (x > self.massive.absolute) & (x > bound[:, None])
        return flags.reshape(len(values), -1).sum(1)
