"""What is said of sites that were not observed."""

from __future__ import annotations

from harness.probes import Moments, Observation, Seen, Site
from harness.records import unobserved


def observation(*left_out: tuple[str, str], called: tuple[str, ...] = ()) -> Observation:
    seen = Observation()
    seen.sites = frozenset({"h.0.up", "h.1.up", "h.0.dt", "h.1.dt"})
    seen.unplaced = set(left_out)  # type: ignore[arg-type]
    for name in called:
        seen.add(Seen(Site(name, "up", 0), "prefill", "rest"), Moments(count=1))
    return seen


ALL = ("h.0.up", "h.1.up", "h.0.dt", "h.1.dt")


def test_sites_are_named_once_for_all_layers_and_models() -> None:
    one = observation(
        ("h.0.pool", "prefill"), ("h.11.pool", "prefill"), ("h.0.pool", "decode"), called=ALL
    )
    other = observation(("h.3.kv", "decode"), ("head.7", "decode"), ("h.0.pool", "decode"))
    assert unobserved({"original": one, "zeroed": other}) == [
        "Not observed, as the output has no place in the text: h.*.pool.",
        "Not observed while texts are continued, as the output has no place in them: "
        "h.*.kv, head.*.",
    ]


def test_what_is_never_called_is_named() -> None:
    one, other = observation(called=ALL[:1]), observation()  # and of `up` in one layer alone
    assert unobserved({"original": one, "zeroed": other}) == [
        "Not observed, as the model never calls it: h.*.dt."
    ]


def test_nothing_is_said_where_all_are_observed() -> None:
    assert unobserved({"original": observation(called=ALL)}) == []
    assert unobserved({}) == []
