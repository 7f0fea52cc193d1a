"""Moments in arrays against moments added up one by one, to the last bit."""

from __future__ import annotations

import math
import random

import pytest

from harness.probes import Flow, Moments, Site, Where
from harness.probes.observation import Observation

PLACES = [
    Where(Site(f"layers.{layer}.mlp", "mlp", layer), phase, "rest")
    for layer in range(6)
    for phase in ("prefill", "decode")
]
HARD = [0.0, 5e-324, -5e-324, 0.1, 1 / 3, 1e308, -1e308, math.inf, -math.inf, math.nan, 1e16]


def made(rng: random.Random) -> Moments:
    sums = (rng.choice([*HARD, rng.gauss(0, 1)]) for _ in range(4))
    largest = rng.choice([0.0, math.nan, math.inf, rng.expovariate(1)])
    return Moments(rng.randrange(2**40), *sums, largest, *rng.sample(range(2**30), 3))


def bits(moments: Moments) -> list[str]:
    """Types and values, such that equality is that of every bit."""
    return [x.hex() if isinstance(x, float) else repr(x) for x in vars(moments).values()]


@pytest.mark.parametrize("seed", range(20))
def test_sums_are_those_of_single_moments_to_the_last_bit(seed: int) -> None:
    rng = random.Random(seed)
    one_by_one, total = Observation(), Flow()
    for _ in range(30):
        # Mostly the same places, as in the steps of a run; sometimes others, in another order.
        some = PLACES if rng.random() < 0.6 else rng.sample(PLACES, rng.randint(0, len(PLACES)))
        step = {where: made(rng) for where in some}
        for where, moments in step.items():
            one_by_one.add("original", where, moments)
        total += Flow.of(step)
    expected = one_by_one.moments["original"]
    assert list(total) == list(expected)
    assert [bits(each) for each in total.values()] == [bits(each) for each in expected.values()]


def test_it_is_a_mapping_that_holds_what_it_was_made_of() -> None:
    moments = {where: made(random.Random(0)) for where in PLACES}
    flow = Flow.of(moments)
    assert Flow.of(flow) is flow
    assert len(flow) == len(PLACES)
    assert [bits(flow[where]) for where in PLACES] == [bits(each) for each in moments.values()]
    with pytest.raises(KeyError):
        flow[Where(Site("other", "other", None), "prefill", "rest")]


def test_counts_stay_whole_numbers() -> None:
    flow = Flow.of({PLACES[0]: Moments(2**52, beyond=2**51, massive=3)})
    found = (flow + flow)[PLACES[0]]
    assert (found.count, found.beyond, found.massive) == (2**53, 2**52, 6)
    assert all(type(n) is int for n in (found.count, found.beyond, found.massive))


def test_nothing_adds_nothing() -> None:
    flow = Flow.of({PLACES[0]: Moments(1, -0.0)})
    for total in (flow + Flow(), Flow() + flow, Flow() + flow + Flow.of({})):
        assert bits(total[PLACES[0]]) == bits(Moments(1, -0.0))  # and no zero becomes another
    assert not Flow() + Flow()


def test_what_is_added_stays_as_it_was() -> None:
    one, other = (Flow.of({w: Moments(1, 2.0) for w in PLACES[k:]}) for k in (0, 3))
    assert one + other != one
    assert set(one.values()) == set(other.values()) == {Moments(1, 2.0)}
