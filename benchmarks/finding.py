"""Four variants with three controls each, found and drawn, against one look at all weights."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.shapes import Bench
from harness.outliers import Criterion, Scope, SigmaThreshold, TopFraction, unique_parameters
from harness.outliers.spread import remembered
from harness.outliers.variants import VariantConfig, variants_of

CLAIM = "four variants with three controls each found, by one look at all weights"
BOUNDS = {"cpu": {"135M": 60}, "cuda": {"135M": 60, "1B": 60, "8B": 60}}
_CONTROLS = 3
_CRITERIA: Mapping[str, tuple[Criterion, ...]] = {
    "beyond 4 to 6 sigma": tuple(map(SigmaThreshold, (4.0, 4.5, 5.0, 6.0))),
    "the largest 1e-4 to 4e-4": tuple(map(TopFraction, (1e-4, 2e-4, 3e-4, 4e-4))),
}


def ratio(bench: Bench, pairs: int = 3) -> float:
    """The larger one of two kinds of criteria."""
    return max(_ratio(bench, criteria, pairs) for criteria in _CRITERIA.values())


def _ratio(bench: Bench, criteria: tuple[Criterion, ...], pairs: int) -> float:
    weights = unique_parameters(bench.model).values()

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
                patch = variant.find(name, bench.model)
                for number in range(_CONTROLS):
                    patch.control(number, bench.model)

    return bench.ratio(find, look, pairs)
