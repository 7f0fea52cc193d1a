"""What becomes of what was observed, and what is said of what was not."""

from __future__ import annotations

import math

import pytest

from harness.evaluation.caveats import too_few
from harness.evaluation.records import extremes, unobserved
from harness.probes import RESIDUAL, Moments, Observation, Site, Where
from harness.results.schema import EditRecord, VariantRecord, VersusControl, VersusOriginal


def observation(*left_out: tuple[str, str], called: tuple[str, ...] = ()) -> Observation:
    seen = Observation()
    seen.sites = frozenset({"h.0.up", "h.1.up", "h.0.dt", "h.1.dt"})
    seen.unplaced = set(left_out)  # type: ignore[arg-type]
    for name in called:
        seen.add("original", Where(Site(name, "up", 0), "prefill", "rest"), Moments(count=1))
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


def seen_at(**moments: Moments) -> dict[Where, Moments]:
    seen = {}
    for number, (kind, values) in enumerate(moments.items()):
        for phase, part in (("prefill", "first"), ("prefill", "rest"), ("decode", "rest")):
            seen[Where(Site(f"{number}", kind, 0), phase, part)] = values  # type: ignore[arg-type]
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


def variant(
    p: float | None = 0.5, controls: int = 0, entries: int = 3, delta: float | None = 0.1
) -> VariantRecord:
    return VariantRecord(
        edit=EditRecord("criterion", "Zero()", entries, 0.1, {}, None, not entries),
        versus_original=VersusOriginal(delta, None, p, *[None] * 6),
        versus_control=VersusControl(controls, *[None] * 6) if controls else None,
    )


EVERY = list(range(12))
ONE_CONTROL = (
    "One control tells nothing of the spread between random selections: no interval of their mean "
    "nor of the excess over it. At least two controls give one."
)


@pytest.mark.parametrize(
    ("samples", "variants", "resamples", "expected"),
    [
        (EVERY, [variant(controls=19), variant()], 19, []),
        ([0], [], 1, []),
        (
            [0, 1, 2] * 4 + EVERY,
            [variant()],
            100,
            [
                "24 documents hold 12 different texts: equal ones count in totals each, in "
                "intervals and p-values as one."
            ],
        ),
        (
            [4, 4],
            [variant(None)],
            100,
            [
                "2 documents hold one text: equal ones count in totals each, in "
                "intervals and p-values as one.",
                "Of one text alone no spread is told: no intervals and no p (texts). Two different "
                "documents give intervals, 6 a p.",
            ],
        ),
        (
            EVERY[:3],
            [variant(None), variant(None)],
            100,
            [
                "No p (texts): of 3 different documents it could not be below 0.25; at least 6 can "
                "reach 0.05."
            ],
        ),
        (
            EVERY,
            [variant(None), variant(None)],
            18,
            [
                "No p (texts): of so few changes of sign it could not be below 0.053; "
                "model.resamples: 19 can reach 0.05."
            ],
        ),
        (
            EVERY,
            [variant(), variant(None), variant(None, entries=0), variant(None, delta=None)],
            100,
            ["No p (texts) where fewer than 6 documents change: 1."],
        ),
        (
            EVERY,
            [variant(controls=3), variant(controls=18), variant(controls=30)],
            100,
            [
                "No p (vs random) and no ratio of fewer than 19 controls: with 18 p could not be "
                "below 0.053."
            ],
        ),
        (
            EVERY,
            [variant(controls=1)],
            100,
            [
                "No p (vs random) and no ratio of fewer than 19 controls: with 1 p could not be "
                "below 0.5.",
                ONE_CONTROL,
            ],
        ),
    ],
)
def test_what_too_little_cannot_tell_is_said_once(
    samples: list[int], variants: list[VariantRecord], resamples: int, expected: list[str]
) -> None:
    named = {str(number): each for number, each in enumerate(variants)}
    assert too_few(samples, named, resamples, "documents") == expected
