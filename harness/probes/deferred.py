"""Measures on a device without waiting for it; what was found is sent once, at the end.

Legend: B rows of T tokens, D features, P parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from harness.base.sent import Sent
from harness.kernels import layout
from harness.probes.measuring import shifted
from harness.probes.moments import Moments
from harness.probes.observation import Observation, Phase, Where
from harness.probes.positions import Positions
from harness.probes.sites import RESIDUAL, Site
from harness.probes.table import Table

# Outputs whose numbers lie side by side: a page of them is made of zeros at once.
_PAGE = 64


class Looks(Protocol):
    """What looks at a matrix on a device, and asks for nothing."""

    def look(self, values: Tensor, table: Table, numbers: Tensor, *, massive: bool) -> None:
        """Measures the parts of a matrix [B * T, D], and writes what it finds among zeros."""


class Deferred:
    """Measures outputs on one device, and remembers where they were seen.

    Args:
        observation: Where moments go, at the end.
        device: The device.
        looks: What looks at values of a type.
    """

    def __init__(
        self,
        observation: Observation,
        device: torch.device,
        looks: Callable[[torch.dtype], Looks],
    ) -> None:
        self._observation = observation
        self._looks = cache(looks)
        self._room = _Room(device)
        self._positions: Positions | None = None
        self._table: Table
        # Of each output: what its moments are called, values to a row, and where its numbers begin.
        self._seen: list[tuple[Site, Phase, Table, int, int]] = []

    def see(self, site: Site, phase: Phase, positions: Positions, values: Tensor) -> None:
        """Measures an output by row and token [B, T, D]; nothing is known of it yet."""
        if not values.numel():
            return
        if positions is not self._positions:
            self._positions, self._table = positions, Table.of(positions, values.device)
        table = self._table
        numbers, start = self._room.take(len(table.keys))
        # The median is over a text, of which decoding has one token at a time.
        massive = site.kind == RESIDUAL and positions.begins
        looks = self._looks(values.dtype)
        looks.look(values.detach().flatten(0, 1), table, numbers, massive=massive)
        self._seen.append((site, phase, table, values.shape[2], start))

    def end(self) -> None:
        """Sends what was found, of which moments are made once they are asked for."""
        if self._seen:
            self._observation.read_later(partial(self._read, self._room.sent()))

    def _read(self, sent: Sent) -> None:
        found = sent.read()
        integers = torch.int64 if found.dtype == torch.float64 else torch.int32
        real, whole = found.tolist(), found.view(integers).tolist()
        for site, phase, table, width, start in self._seen:
            for (owner, part), row in zip(table.keys, count(start), strict=False):
                if rows := whole[row][layout.ROWS]:
                    moments = _moments(rows * width, whole[row], real[row])
                    self._observation.add(owner, Where(site, phase, part), moments)


class _Room:
    """Room on a device for a row of numbers of each part of each output."""

    def __init__(self, device: torch.device) -> None:
        # MPS has no fp64.
        self._real = torch.float32 if device.type == "mps" else torch.float64
        self._device = device
        self._pages: list[Tensor] = []
        self._left: list[Tensor] = []
        self._rows = 0

    def take(self, parts: int) -> tuple[Tensor, int]:
        """Zeros [P, `layout.COLUMNS`], and the number of the first row."""
        if not self._left or len(self._left[-1]) != parts:
            self._rows = sum(map(len, self._pages))
            shape = (_PAGE * parts, layout.COLUMNS)
            self._pages.append(torch.zeros(shape, dtype=self._real, device=self._device))
            self._left = list(reversed(torch.split(self._pages[-1], parts)))
        start = self._rows
        self._rows += parts
        return self._left.pop(), start

    def sent(self) -> Sent:
        """What was written, by row."""
        return Sent(torch.cat(self._pages))


def _moments(values: int, whole: Sequence[int], real: Sequence[float]) -> Moments:
    center, scale = real[layout.CENTER], real[layout.SCALE] or 1.0
    one, two, three, four = real[layout.SUMS :]
    square = scale * scale
    powers = (one * scale, two * square, three * square * scale, four * square * square)
    moments = shifted(values, center, powers) if center else Moments(values, *powers)
    return replace(
        moments,
        max_abs=real[layout.LARGEST],
        beyond=whole[layout.BEYOND],
        beyond_sigmas=whole[layout.BEYOND_SIGMAS],
        massive=whole[layout.MASSIVE],
    )
