"""``python -m benchmarks.finding``: four variants with three controls each, found and drawn.

Against the largest magnitude of all weights, on a GPU where there is one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

import torch
from torch import nn

from benchmarks.model import model
from benchmarks.timing import seconds
from harness.outliers import Criterion, Scope, SigmaThreshold, TopFraction, unique_parameters
from harness.outliers.spread import remembered
from harness.outliers.variants import VariantConfig, variants_of

BOUND = 60
TAKES = "about half a minute on two cores"
_CONTROLS = 3
_CRITERIA: Mapping[str, tuple[Criterion, ...]] = {
    "beyond 4 to 6 sigma": tuple(map(SigmaThreshold, (4.0, 4.5, 5.0, 6.0))),
    "the largest 1e-4 to 4e-4": tuple(map(TopFraction, (1e-4, 2e-4, 3e-4, 4e-4))),
}


def ratio(pairs: int = 3, of: nn.Module | None = None) -> float:
    """The larger one of two medians over interleaved pairs, of two kinds of criteria.

    Args:
        pairs: How many of each kind.
        of: The model; None for that of the other measurements, on a GPU in bfloat16.
    """
    found = model() if of is None else of
    if of is None and torch.cuda.is_available():
        found = found.to("cuda", torch.bfloat16)
    return max(_ratio(found, criteria, pairs) for criteria in _CRITERIA.values())


def _ratio(found: nn.Module, criteria: tuple[Criterion, ...], pairs: int) -> float:
    weights = unique_parameters(found).values()

    def look() -> None:
        # All are asked before any answers: a device is to be kept busy.
        for largest in [weight.detach().abs().max() for weight in weights]:
            largest.item()

    def find() -> None:
        configs = {
            f"variant-{number}": VariantConfig(criterion, scope=Scope(matrices_only=True))
            for number, criterion in enumerate(criteria)
        }
        with remembered():
            for name, variant in variants_of(configs).items():
                patch = variant.find(name, found)
                for number in range(_CONTROLS):
                    patch.control(number, found)

    look(), find()
    return statistics.median(seconds(find) / seconds(look) for _ in range(pairs))


if __name__ == "__main__":
    print(f"{ratio():.1f} (at most {BOUND} on a GPU)")
