"""What is said of sites that could not be observed."""

from __future__ import annotations

from harness.probes import Observation
from harness.records import unplaced


def observation(*left_out: tuple[str, str]) -> Observation:
    seen = Observation()
    seen.unplaced = set(left_out)  # type: ignore[arg-type]
    return seen


def test_sites_are_named_once_for_all_layers_and_models() -> None:
    one = observation(("h.0.pool", "prefill"), ("h.11.pool", "prefill"), ("h.0.pool", "decode"))
    other = observation(("h.3.kv", "decode"), ("head.7", "decode"), ("h.0.pool", "decode"))
    assert unplaced({"original": one, "zeroed": other, "more": observation()}) == [
        "Not observed, as the output has no place in the text: h.*.pool.",
        "Not observed while texts are continued, as the output has no place in the text: "
        "h.*.kv, head.*.",
    ]


def test_nothing_is_said_where_all_are_observed() -> None:
    assert unplaced({"original": observation()}) == []
    assert unplaced({}) == []
