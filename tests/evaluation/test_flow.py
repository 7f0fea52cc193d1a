"""What becomes of what was observed, and what is said of what was not."""

from __future__ import annotations

import math

import pytest

from harness.evaluation.flow import extremes, unobserved
from harness.evaluation.step import Outcome
from harness.probes import RESIDUAL, Moments, Site, Where

SITES = ("h.0.up", "h.1.up", "h.0.dt", "h.1.dt")


def observation(*left_out: tuple[str, str], called: tuple[str, ...] = ()) -> Outcome:
    moments = {Where(Site(n, "up", 0), "prefill", "rest"): Moments(count=1) for n in called}
    return Outcome(moments=moments, unplaced=set(left_out))  # type: ignore[arg-type]


def test_sites_are_named_once_for_all_layers_and_models() -> None:
    one = observation(
        ("h.0.pool", "prefill"), ("h.11.pool", "prefill"), ("h.0.pool", "decode"), called=SITES
    )
    other = observation(("h.3.kv", "decode"), ("head.7", "decode"), ("h.0.pool", "decode"))
    assert unobserved(SITES, [one, other]) == [
        "Not observed, as the output has no place in the text: h.*.pool.",
        "Not observed while texts are continued, as the output has no place in them: "
        "h.*.kv, head.*.",
    ]


def test_what_is_never_called_is_named() -> None:
    one, other = observation(called=SITES[:1]), observation()  # and of `up` in one layer alone
    assert unobserved(SITES, [one, other]) == ["Not observed, as the model never calls it: h.*.dt."]


def test_nothing_is_said_where_all_are_observed() -> None:
    assert unobserved(SITES, [observation(called=SITES)]) == []
    assert unobserved([], []) == []


def seen_at(**moments: Moments) -> dict[Where, Moments]:
    seen = {}
    for number, (kind, values) in enumerate(moments.items()):
        for phase, part in (("prefill", "first"), ("prefill", "rest"), ("decode", "rest")):
            seen[Where(Site(f"{number}", kind, 0), phase, part)] = values
    return seen


def test_extremes_of_what_was_read() -> None:
    # Of -1, 1: kurtosis 1. Of -9, 0, 0, 0, 0, 0, 0, 0, 9: kurtosis 4.5.
    even, peaked = Moments(2, 0, 2, 0, 2, 1.0), Moments(9, 0, 162, 0, 13122, 9.0, massive=2)
    found = extremes(seen_at(**{"up": even, RESIDUAL: peaked}))
    assert (found.max_abs, found.max_abs_site) == (9.0, "1")
    assert (found.max_kurtosis, found.max_kurtosis_site) == (4.5, "1")
    assert found.massive_count == 4  # of two parts; what was written does not count


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_extremes_of_what_is_not_finite_are_unknown(value: float) -> None:
    broken, sound = Moments(2, value, value, value, value, value), Moments(2, 0, 2, 0, 2, 1.0)
    for moments in ({"up": broken, RESIDUAL: sound}, {"up": sound, RESIDUAL: broken}):
        found = extremes(seen_at(**moments))
        assert set(vars(found).values()) == {None}


def test_no_massive_activations_are_counted_where_no_block_was_observed() -> None:
    assert extremes(seen_at(up=Moments(2, 0, 2, 0, 2, 1.0))).massive_count is None
    assert extremes(seen_at(**{RESIDUAL: Moments(2, 0, 2, 0, 2, 1.0)})).massive_count == 0
