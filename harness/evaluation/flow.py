"""What flowed through the models, as results tell it, and what was not observed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

from harness.evaluation.step import Outcome
from harness.probes import RESIDUAL, Moments, Where
from harness.results.schema import ActivationRecord


def extremes(seen: Mapping[Where, Moments]) -> ActivationRecord:
    """The extremes of what was seen while a text was read; None where something was not finite.

    Args:
        seen: Moments by site, phase and part of the positions.
    """
    sites: dict[str, Moments] = {}
    massive: list[int] = []
    for (site, phase, _), moments in seen.items():
        if phase == "prefill":
            sites[site.name] = sites.get(site.name, Moments()) + moments
            massive += [moments.massive] if site.kind == RESIDUAL else []
    largest, where = _largest({name: moments.max_abs for name, moments in sites.items()})
    kurtosis, kurtosis_where = _largest(
        # One that cannot be told, of values that are nearly equal, is not large.
        {n: m.kurtosis for n, m in sites.items() if not math.isnan(m.kurtosis) or math.isnan(m.std)}
    )
    return ActivationRecord(
        max_abs=largest,
        max_abs_site=where,
        max_kurtosis=kurtosis,
        max_kurtosis_site=kurtosis_where,
        massive_count=sum(massive) if massive and largest is not None else None,
    )


def _largest(values: Mapping[str, float]) -> tuple[float | None, str | None]:
    if not values or not all(map(math.isfinite, values.values())):
        return None, None
    where = max(values, key=values.__getitem__)
    return values[where], where


def unobserved(sites: Iterable[str], outcomes: Iterable[Outcome]) -> list[str]:
    """Sentences about sites of which nothing is known, those of all layers together.

    Args:
        sites: Names of the sites that were to be observed.
        outcomes: What was observed.
    """
    outcomes = list(outcomes)
    seen = {_in_any_layer(where.site.name) for each in outcomes for where in each.moments}
    left_out = {place for each in outcomes for place in each.unplaced}
    reading = {_in_any_layer(site) for site, phase in left_out if phase == "prefill"}
    continuing = {_in_any_layer(site) for site, _ in left_out} - reading
    reasons = {
        "Not observed, as the output has no place in the text": reading,
        "Not observed while texts are continued, as the output has no place in them": continuing,
        # One expert of many may wait for its turn; what is called in no layer is never called.
        "Not observed, as the model never calls it": (
            set(map(_in_any_layer, sites)) - seen - reading - continuing
        ),
    }
    return [f"{why}: {', '.join(sorted(found))}." for why, found in reasons.items() if found]


def _in_any_layer(site: str) -> str:
    return re.sub(r"\.\d+(?=\.|$)", ".*", site)
