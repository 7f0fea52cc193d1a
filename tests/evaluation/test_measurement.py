"""Steps add up to the same in any order and grouping, and a file of them may be cut anywhere."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import reduce
from operator import add
from pathlib import Path

import pytest

from harness.data import Corpus, Unit
from harness.evaluation.design import NOISE_FLOOR, Design, Resampling, Subject
from harness.evaluation.measurement import Measurement, Totals
from harness.evaluation.step import Outcome, StepResult
from harness.evaluation.summary import summarise
from harness.outliers import Patch
from harness.probes import Moments, Site, Where
from harness.results.codec import to_json
from harness.results.schema import DataRecord, ModelRecord, ObserverRecord, RunRecord
from harness.scoring import Tally
from tests.evaluation.test_step import exact, histogram, made_row, scored, written

NAMES = ["original", "sigma5", "sigma5-control-0", "sigma5-control-1"]
READING, WINDOWS, PROMPTS = 12, 3, 2
NOTHING = Patch()
RECORD = RunRecord("mine", 0, "validate", 42, 1, "32-true", 1.0, False, resamples=200)


def made_design() -> Design:
    """The design of what `made_steps` makes."""
    count = READING * WINDOWS
    units = [Unit(f"text {k}", 1, None, None, k) for k in range(count // 2)]
    record = DataRecord(
        *("texts", "all", len(units), count, 1, None, None, 9, 9, "document", "none", "rolling")
    )
    return Design(
        ModelRecord("tiny", None, "Tiny", 1, "float32"),
        (
            Subject("sigma5", NOTHING),
            *(Subject(name, NOTHING, control_of="sigma5") for name in NAMES[2:]),
            Subject(NOISE_FLOOR, NOTHING, is_thorough=False, steps=8),
        ),
        Corpus([], units, rows=None, plan=[], record=record),  # type: ignore[arg-type]
        [f"prompt {k}" for k in range(8)],
        Resampling(200),
        ObserverRecord(6.0, 6.0, 100.0, 1000.0, 1),
        remarks=("a remark",),
    )


def made_steps(seed: int = 0) -> list[StepResult]:
    """Steps in the order of the plan: windows, the first eight with a floor, and prompts."""
    steps = []
    for number in range(READING):
        windows = [number * WINDOWS + k for k in range(WINDOWS)]
        names = [*NAMES, NOISE_FLOOR] if number < 8 else NAMES
        steps.append(scored(number, windows, names, seed))
    for place in range(4):
        prompts = [place * PROMPTS + k for k in range(PROMPTS)]
        steps.append(written(READING + place, prompts, NAMES[:3], seed))
    return steps


@pytest.fixture
def make() -> Iterator[Callable[..., Measurement]]:
    """Makes measurements of steps, and closes them."""
    with ExitStack() as opened:

        def measurement(*steps: StepResult, path: Path | None = None) -> Measurement:
            made = Measurement(path)
            opened.callback(made.close)
            for step in steps:
                made.add(step)
            return made

        yield measurement


@pytest.fixture
def read() -> Iterator[Callable[[Path], Measurement]]:
    """Reads measurements, and closes them."""
    with ExitStack() as opened:

        def measurement(path: Path) -> Measurement:
            found = Measurement.read(path)
            opened.callback(found.close)
            return found

        yield measurement


def results(totals: Totals) -> str:
    return to_json(summarise(totals, made_design(), RECORD))


# -- adding up -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_any_order_and_grouping_gives_the_same_to_the_last_bit(
    seed: int, make: Callable[..., Measurement]
) -> None:
    rng = random.Random(seed)
    steps = made_steps()
    expected = make(*steps).totals()
    mixed = rng.sample(steps, len(steps))
    groups: list[list[StepResult]] = [[] for _ in range(rng.randint(1, 6))]
    for step in mixed:
        rng.choice(groups).append(step)
    parts = [make(*group) for group in groups]
    while len(parts) > 1:  # in pairs, whichever come
        one, other = rng.sample(parts, 2)
        one.merge(other)
        parts.remove(other)
    found = parts[0].totals()
    assert exact(found) == exact(expected)
    assert results(found) == results(expected)


def test_the_order_would_matter_where_sums_are_made_as_steps_come() -> None:
    """The steps above tell one order from another, or the test of orders would show nothing."""

    def summed(steps: list[StepResult]) -> Outcome:
        total = Outcome()
        for step in steps:
            total.add(step.outcomes["sigma5"])
        return total

    steps = made_steps()
    forwards, backwards = summed(steps).moments, summed(steps[::-1]).moments
    assert any(exact(forwards[where]) != exact(backwards[where]) for where in forwards)


def test_totals_are_naive_sums_in_the_order_of_the_plan(make: Callable[..., Measurement]) -> None:
    steps = made_steps()
    totals = make(*steps[::-1]).totals()
    assert list(totals.scored) == [*NAMES, NOISE_FLOOR]
    assert list(totals.continued) == NAMES[:3]
    for part, of in ((totals.scored, steps[:READING]), (totals.continued, steps[READING:])):
        for name, total in part.items():
            outcomes = [step.outcomes[name] for step in of if name in step.outcomes]
            rows = [row for outcome in outcomes for row in outcome.tally.rows]
            assert total.tally.rows.tolist() == [row.item() for row in rows]
            counts = [outcome.tally.kl.count for outcome in outcomes]
            assert total.tally.kl.count == sum(counts)
            texts = [text for outcome in outcomes for text in outcome.texts.items()]
            assert list(total.texts.items()) == texts
            for where, moments in total.moments.items():
                parts = [o.moments[where] for o in outcomes if where in o.moments]
                assert exact(moments) == exact(reduce(add, parts))
            assert total.unplaced == set().union(*(outcome.unplaced for outcome in outcomes))


def test_of_the_notes_on_a_model_the_first_in_the_plan_stands(
    make: Callable[..., Measurement],
) -> None:
    def noted(number: int, **notes: str) -> StepResult:
        outcomes = {name: Outcome() for name in NAMES}
        for name, note in notes.items():
            outcomes[name] = Outcome(notes=[note])
        return StepResult(number, outcomes)

    steps = [noted(5, original="late", sigma5="five"), noted(2, original="early"), noted(9)]
    assert make(*steps).totals().notes == ["early", "five"]


def test_nothing_measured_adds_up_to_nothing(make: Callable[..., Measurement]) -> None:
    assert exact(make().totals()) == exact(Totals())


def test_adding_up_changes_nothing_in_what_was_measured(make: Callable[..., Measurement]) -> None:
    measurement = make(*made_steps())
    first = measurement.totals()
    for outcome in first.scored.values():
        outcome.add(outcome)
    assert exact(measurement.totals()) == exact(make(*made_steps()).totals())


# -- which steps -----------------------------------------------------------------------------------


def test_what_belongs_to_no_batch_of_the_plan_never_enters(
    make: Callable[..., Measurement], tmp_path: Path
) -> None:
    make(path=tmp_path / "empty")
    measurement = make(scored(-1, [0], NAMES), scored(-7, [0], NAMES), path=tmp_path / "steps")
    assert len(measurement) == 0
    assert -1 not in measurement
    assert list(measurement) == []
    assert (tmp_path / "steps").read_bytes() == (tmp_path / "empty").read_bytes()


def test_a_step_may_come_twice_but_not_differently(make: Callable[..., Measurement]) -> None:
    steps = made_steps()
    measurement, same = make(*steps), make(*steps[3:9])
    expected = exact(measurement.totals())
    measurement.add(steps[3])
    measurement.merge(same)
    measurement.merge(measurement)
    other = scored(3, [9, 10, 11], NAMES, seed=1)
    with pytest.raises(ValueError, match="step 3 was measured twice, and differently"):
        measurement.add(other)
    with pytest.raises(ValueError, match="step 3 was measured twice, and differently"):
        measurement.merge(make(other))
    assert len(measurement) == len(steps)
    assert exact(measurement.totals()) == expected


def test_steps_are_found_by_number_and_come_in_order(make: Callable[..., Measurement]) -> None:
    steps = made_steps()
    measurement = make(*steps[::-2])
    assert len(measurement) == len(steps) // 2
    assert [step.number for step in measurement] == list(range(1, len(steps), 2))
    assert [number in measurement for number in range(4)] == [False, True, False, True]
    for step in measurement:
        assert exact(step) == exact(steps[step.number])


def test_steps_may_be_added_while_others_are_read(make: Callable[..., Measurement]) -> None:
    steps = made_steps()
    measurement = make(*steps[:6])
    for step in measurement:
        measurement.add(steps[step.number + 6])
    assert exact(measurement.totals()) == exact(make(*steps[:12]).totals())


def test_memory_does_not_grow_with_steps(make: Callable[..., Measurement]) -> None:
    rng = random.Random(0)
    sites = [Site(f"model.layers.{k}.mlp", "mlp", k) for k in range(50)]
    moments = {Where(site, "prefill", "first"): Moments(1, rng.random()) for site in sites}
    outcome = Outcome(Tally([made_row(0, rng)], histogram([1.0])), moments=moments)
    measurement, steps = make(), 500
    tracemalloc.start()
    try:
        for number in range(100):
            measurement.add(StepResult(number, {"original": outcome}))
        before, _ = tracemalloc.get_traced_memory()
        for number in range(100, steps):
            measurement.add(StepResult(number, {"original": outcome}))
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert sum(1 for _ in measurement) == steps
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / (steps - 100) < 300
    assert peak - after < 300_000  # one step at a time is read


# -- files -----------------------------------------------------------------------------------------


def small_steps() -> list[StepResult]:
    rng = random.Random(0)
    outcomes = [Outcome(Tally([made_row(k, rng)])) for k in range(3)]
    numbers = (4, 9, 0)
    return [StepResult(n, {"original": o}) for n, o in zip(numbers, outcomes, strict=True)]


@pytest.fixture
def ends(tmp_path: Path, make: Callable[..., Measurement]) -> list[int]:
    """Writes a file of the small steps, and says where in it each ends."""
    path, found = tmp_path / "steps", []
    measurement = make(path=path)
    for step in small_steps():
        measurement.add(step)
        found.append(path.stat().st_size)  # nothing waits in memory: the run may be killed now
    return found


def test_a_file_holds_what_was_added(
    tmp_path: Path, make: Callable[..., Measurement], read: Callable[[Path], Measurement]
) -> None:
    path = tmp_path / "steps"
    written = make(*made_steps(), path=path)
    content = path.read_bytes()
    found = read(path)
    assert exact(found.totals()) == exact(written.totals())
    assert path.read_bytes() == content


def test_a_file_that_is_cut_anywhere_is_read_up_to_the_last_whole_step(
    tmp_path: Path, ends: list[int]
) -> None:
    steps, content, cut = small_steps(), (tmp_path / "steps").read_bytes(), tmp_path / "cut"
    for end in range(len(content) + 1):
        cut.write_bytes(content[:end])
        whole = [step for step, stop in zip(steps, ends, strict=True) if stop <= end]
        found = Measurement.read(cut)
        assert len(found) == len(whole), end
        if end in ends or end == ends[-1] - 1:
            expected = sorted(whole, key=lambda step: step.number)
            assert [exact(step) for step in found] == [exact(step) for step in expected]
        found.close()


@pytest.mark.parametrize("tail", [1, 20, 300])
def test_zeros_at_the_end_are_no_step(
    tail: int, tmp_path: Path, ends: list[int], read: Callable[[Path], Measurement]
) -> None:
    """A file system may leave them where a machine lost its power before data were written."""
    with (tmp_path / "steps").open("ab") as file:
        file.write(bytes(tail))
    assert [step.number for step in read(tmp_path / "steps")] == [0, 4, 9]


def test_what_was_read_goes_on(
    tmp_path: Path,
    make: Callable[..., Measurement],
    read: Callable[[Path], Measurement],
) -> None:
    steps, path = made_steps(), tmp_path / "steps"
    make(*steps[:9], path=path).close()
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    found = read(path)
    assert len(found) == 8
    for step in steps:
        if step.number not in found:
            found.add(step)
    expected = make(*steps).totals()
    assert exact(found.totals()) == exact(expected)
    assert results(found.totals()) == results(expected)


def test_a_file_is_made_anew(tmp_path: Path, make: Callable[..., Measurement]) -> None:
    make(*made_steps(), path=tmp_path / "steps").close()
    make(path=tmp_path / "empty")
    assert len(make(path=tmp_path / "steps")) == 0
    assert (tmp_path / "steps").read_bytes() == (tmp_path / "empty").read_bytes()


def test_files_of_several_processes_add_up_to_one(
    tmp_path: Path, make: Callable[..., Measurement], read: Callable[[Path], Measurement]
) -> None:
    steps = made_steps()
    for rank in range(3):
        make(*steps[rank::3], path=tmp_path / f"{rank}.steps").close()
    whole = read(tmp_path / "2.steps")
    for rank in range(2):
        whole.merge(read(tmp_path / f"{rank}.steps"))
    assert results(whole.totals()) == results(make(*steps).totals())


def test_what_is_not_finite_is_told_the_same_in_any_order(
    make: Callable[..., Measurement],
) -> None:
    steps = made_steps()
    row = steps[5].outcomes["sigma5"].tally.rows[0]
    row.nll, row.kl = math.nan, math.inf
    expected = results(make(*steps).totals())
    assert results(make(*steps[::-1]).totals()) == expected
    assert '"delta_nll": null' in expected
