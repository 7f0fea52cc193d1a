"""What looks at matrices on a device: kernels in Triton, where they run and agree with the rest."""

from __future__ import annotations

import torch

from harness.kernels.where import by_triton
from harness.probes.deferred import Deferred, Looks
from harness.probes.massive import Massive
from harness.probes.moments import Moments, Thresholds
from harness.probes.observation import Observation, Where
from harness.probes.operations import ByOperations
from harness.probes.positions import Positions
from harness.probes.sites import RESIDUAL, Site

# How far sums that are made in another order, in fp32, may lie from each other.
_CLOSE = 1e-4


def looks(
    thresholds: Thresholds, massive: Massive, device: torch.device, dtype: torch.dtype
) -> Looks:
    """What looks at matrices of a type: kernels in Triton where they are, else plain operations.

    Args:
        thresholds: What counts as an outlier.
        massive: What counts as a massive activation.
        device: Where the matrices are.
        dtype: Their type.
    """
    if not by_triton(device, dtype, kernels_agree):
        return ByOperations(thresholds, massive)
    from harness.probes.kernels import ByTriton

    return ByTriton(thresholds, massive)


def kernels_agree(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether kernels in Triton find, on a device, what plain operations find."""
    from harness.probes.kernels import ByTriton

    thresholds, massive = Thresholds(2.0, 2.5), Massive(8.0, 4.0)
    values = torch.sin(torch.arange(2 * 40 * 48, dtype=torch.float32, device=device))
    values = values.reshape(2, 40, 48)
    values[0, 1, 5] = values[1, 0, 7] = 9.0
    mask = torch.ones(2, 40, dtype=torch.bool, device=device)
    mask[1, 30:] = False
    positions = Positions.of_mask(mask, "both")
    by_kernels, by_operations = (
        _found(each, positions, values.to(dtype))
        for each in (ByTriton(thresholds, massive), ByOperations(thresholds, massive))
    )
    return by_kernels.keys() == by_operations.keys() and all(
        _agree(moments, by_operations[where]) for where, moments in by_kernels.items()
    )


def _found(looks_at: Looks, positions: Positions, values: torch.Tensor) -> dict[Where, Moments]:
    observation = Observation(["both"])
    deferred = Deferred(observation, values.device, lambda _: looks_at)
    deferred.see(Site("block", RESIDUAL, 0), "prefill", positions, values)
    deferred.end()
    return observation.moments["both"]


def _agree(one: Moments, other: Moments) -> bool:
    counts = ("count", "max_abs", "beyond", "beyond_sigmas", "massive")
    if any(getattr(one, name) != getattr(other, name) for name in counts):
        return False
    sums = ("total", "squares", "cubes", "fourths")
    # A sum of both signs may be near nothing: what counts is how large its terms are.
    close = _CLOSE * max(one.squares, one.fourths)
    return all(abs(getattr(one, name) - getattr(other, name)) <= close for name in sums)
