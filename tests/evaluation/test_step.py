"""The result of a step as bytes: read back it is the same to the last bit."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import pytest
import torch

from harness.evaluation.step import Outcome, StepResult
from harness.probes import Moments, Site, Where
from harness.probes.observation import Phase
from harness.probes.positions import PARTS
from harness.scoring import LogHistogram, Tally, WindowRow
from harness.writing.generate import Continuation

HARD = [0.0, -0.0, 5e-324, -5e-324, 2.2e-308, 0.1, 1 / 3, 1e308, -1e308, math.inf, -math.inf]
HARD += [math.nan, 1e16, 1.0, -1e16, 2.0**-60]
NAMES = ["original", "sigma5", "sigma5-control-0", "(original again)"]
ODD = ["", " ", "a\nb", '"', "\\", "é 漢 😀", "\x00", "\ud800", "{}", "\N{LINE SEPARATOR}"]
SITES = [Site("model.layers.0", "residual", 0), Site("model.norm", "norm", None)]


def exact(value: Any) -> Any:
    """A value such that equality is equality of types, of order, and of every bit of a float."""
    if isinstance(value, StepResult):
        return value.number, value.key, exact(value.outcomes)
    if isinstance(value, np.ndarray):
        return exact(value.tolist())
    if isinstance(value, Tally):
        return exact(value.rows), exact(value.kl)
    if isinstance(value, LogHistogram):
        return exact(value._counts.tolist()), value.nonfinite, exact(value.maximum)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return type(value).__name__, exact(fields)
    if isinstance(value, Mapping):
        return "dict", [(exact(key), exact(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [exact(item) for item in value]
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value.hex()
    assert value is None or isinstance(value, int | str | bool | set), type(value)
    return type(value).__name__, value


def histogram(values: list[float]) -> LogHistogram:
    made = LogHistogram()
    made.add(torch.tensor(values, dtype=torch.float64))
    return made


def made_moments(rng: random.Random) -> Moments:
    total, squares, cubes, fourths = (rng.choice([*HARD, rng.gauss(0, 1)]) for _ in range(4))
    largest = rng.choice([0.0, math.nan, math.inf, rng.expovariate(1)])
    counts = rng.sample(range(2**30), 3)
    return Moments(rng.randrange(2**40), total, abs(squares), cubes, abs(fourths), largest, *counts)


def made_flow(rng: random.Random) -> dict[Where, Moments]:
    places = [
        Where(site, phase, part) for site in SITES for phase in get_args(Phase) for part in PARTS
    ]
    return {where: made_moments(rng) for where in rng.sample(places, rng.randint(0, len(places)))}


def made_row(window: int, rng: random.Random) -> WindowRow:
    tokens = 50 + window * 7 % 50  # the same for every model
    kl = rng.expovariate(1)
    return WindowRow(window, window // 2, tokens, rng.gauss(300, 9), kl, rng.randint(0, tokens))


def made_text(rng: random.Random) -> Continuation:
    if rng.random() < 0.2:
        return Continuation((), broken=True)
    tokens = tuple(rng.randrange(200_000) for _ in range(rng.randint(0, 9)))
    nll = rng.expovariate(0.1) if tokens else None
    return Continuation(tokens, nll=nll, choices=len(tokens) + 1, near=rng.randrange(9))


def scored(number: int, windows: list[int], names: list[str], seed: int = 0) -> StepResult:
    """A step that scored windows; what it holds depends on its number and the seed alone."""
    rng = random.Random(f"{seed} {number}")
    return StepResult(
        number,
        {
            name: Outcome(
                Tally([made_row(w, rng) for w in windows], histogram([rng.expovariate(1)] * 3)),
                moments=made_flow(rng),
                unplaced={(rng.choice("abc"), "prefill")},
                notes=[f"{name}: noted"] if rng.random() < 0.3 else [],
            )
            for name in names
        },
    )


def written(number: int, prompts: list[int], names: list[str], seed: int = 0) -> StepResult:
    """A step that continued prompts."""
    rng = random.Random(f"{seed} {number}")
    return StepResult(
        number,
        {
            name: Outcome(
                texts={prompt: made_text(rng) for prompt in prompts}, moments=made_flow(rng)
            )
            for name in names
        },
    )


def of(outcome: Outcome) -> StepResult:
    return StepResult(7, {"original": Outcome(), "a": outcome, "b": Outcome()})


HUGE = 2**63 - 1
CASES = {
    "nothing": of(Outcome()),
    "rows": of(
        Outcome(
            Tally([WindowRow(HUGE - 99 + k, -HUGE, HUGE, x, -x, 0) for k, x in enumerate(HARD)])
        )
    ),
    "histogram": of(Outcome(Tally(kl=histogram([*HARD, 1e-11, 1e5])))),
    "nothing finite": of(Outcome(Tally(kl=histogram([math.nan, math.inf])))),
    "texts": of(
        Outcome(
            texts={
                9: Continuation((0, 2**31, 5), nll=1 / 3),
                2: Continuation((), broken=True),
                3: Continuation((4,), nll=math.nan),
                0: Continuation((1,), nll=-0.0),
                HUGE: Continuation(()),
            }
        )
    ),
    "moments": of(
        Outcome(
            moments={
                Where(SITES[k % 2], "decode", "rest" if k < 2 else "first"): moments
                for k, moments in enumerate(
                    [
                        Moments(2**53, *HARD[:4], math.nan, 2**53 - 1, 0, 1),
                        Moments(1, *HARD[4:8], math.inf),
                        Moments(0, *HARD[8:12], -0.0),
                        Moments(),
                    ]
                )
            }
        )
    ),
    "names": StepResult(
        0,
        {
            name: Outcome(
                moments={Where(Site(name, name[::-1], None), "prefill", "first"): Moments(1)},
                unplaced={(name, "prefill"), (name, "decode")},
                notes=[name, name],
            )
            for name in ["original", *ODD]
        },
    ),
    "numbers below 0": StepResult(-1, {"original": Outcome()}),
    "key": StepResult(2, {"original": Outcome()}, "0123 é"),
    "windows": scored(3, [4, 5, 6], NAMES),
    "prompts": written(10**12, [4, 0], NAMES),
}


@pytest.mark.parametrize("step", CASES.values(), ids=CASES)
def test_what_is_read_back_is_the_same_to_the_last_bit(step: StepResult) -> None:
    before, data = exact(step), step.to_bytes()
    again = StepResult.from_bytes(data)
    assert exact(again) == before
    assert again.to_bytes() == data
    assert exact(step) == before  # and writing it changes nothing


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("made", [scored, written])
def test_steps_of_any_content(made: Callable[..., StepResult], seed: int) -> None:
    step = made(seed, [2, 3], NAMES, seed)
    assert exact(StepResult.from_bytes(step.to_bytes())) == exact(step)


def test_bytes_do_not_depend_on_the_order_of_a_set() -> None:
    places = [(f"site{k}", phase) for k in range(20) for phase in get_args(Phase)]
    one, other = (
        of(Outcome(unplaced=set(order))).to_bytes() for order in (places, reversed(places))
    )
    assert one == other


def test_figures_of_a_histogram_go_on_after_reading() -> None:
    values = [0.5, 2.0, 1e-12, math.nan]
    again = StepResult.from_bytes(of(Outcome(Tally(kl=histogram(values)))).to_bytes())
    found = again.outcomes["a"].tally.kl
    found.add(torch.tensor([7.0]))
    assert exact(found) == exact(histogram([*values, 7.0]))


def test_what_is_read_shares_nothing_with_what_was_written() -> None:
    step = scored(0, [0, 1], NAMES)
    again = StepResult.from_bytes(step.to_bytes())
    before = exact(step)
    for outcome in again.outcomes.values():
        outcome.add(outcome)
    assert exact(step) == before


def test_adding_outcomes_adds_each_part_and_leaves_the_other_as_it_was() -> None:
    where = [Where(site, "prefill", "first") for site in SITES]
    one = Outcome(
        Tally([WindowRow(0, 0, 1, 2.0, 0.0, 1)], histogram([1.0])),
        {0: Continuation((1,))},
        {where[0]: Moments(1, 2.0)},
        {("a", "prefill")},
        ["first"],
    )
    other = Outcome(
        Tally([WindowRow(1, 1, 2, 3.0, 0.5, 1)], histogram([2.0])),
        {1: Continuation((2,))},
        {where[0]: Moments(2, 3.0), where[1]: Moments(4)},
        {("b", "decode")},
        ["second"],
    )
    before = exact(other)
    total = Outcome()
    total.add(one)
    total.add(other)
    assert [row.window for row in total.tally.rows] == [0, 1]
    assert exact(total.tally.kl) == exact(histogram([1.0, 2.0]))
    assert total.texts == {0: Continuation((1,)), 1: Continuation((2,))}
    assert total.moments == {where[0]: Moments(3, 5.0), where[1]: Moments(4)}
    assert total.unplaced == {("a", "prefill"), ("b", "decode")}
    assert total.notes == ["first", "second"]
    assert exact(other) == before
    assert len(one.tally.rows) == len(one.notes) == 1


def test_whether_windows_were_scored() -> None:
    assert scored(0, [0], ["original"]).is_scored
    assert not written(0, [0], ["original"]).is_scored


@pytest.mark.parametrize("made", [scored, written])
def test_bytes_that_are_cut_short_are_refused(made: Callable[..., StepResult]) -> None:
    data = made(1, [2, 3], NAMES).to_bytes()
    for end in range(len(data)):
        with pytest.raises(ValueError):  # noqa: PT011  (which one depends on where it is cut)
            StepResult.from_bytes(data[:end])


@pytest.mark.parametrize("count", [1, 8, 72, 720])
def test_bytes_after_the_end_are_refused(count: int) -> None:
    data = scored(1, [2, 3], NAMES).to_bytes()
    with pytest.raises(ValueError):  # noqa: PT011
        StepResult.from_bytes(data + bytes(count))


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"\xff\xfe\n", b"[1, 2]\n", b"{}\n", b'{"number": 1}\n', bytes(100)],
    ids=["nothing", "a line", "no text", "a list", "no keys", "a number", "zeros"],
)
def test_bytes_of_something_else_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="step"):
        StepResult.from_bytes(data)
