"""A run hands what was measured to every writer, and keeps its journal until all is written."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.evaluation.design import Design
from harness.evaluation.keys import key_of
from harness.evaluation.measurement import Measurement, Totals
from harness.evaluation.step import Outcome, StepResult
from harness.evaluation.summary import summarise
from harness.probes import Moments, Site
from harness.results.schema import Results
from harness.tracking.run import Run
from harness.tracking.run_folder import RunFolder
from harness.tracking.writer import Writer
from tests.evaluation.test_measurement import RECORD, made_design, made_steps
from tests.evaluation.test_step import exact

SITE = Site("model.norm.weight", "norm.weight", None)


class Recording(Writer):
    """Writes down what it is given, and what the run's folder holds at that moment."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]]) -> None:
        self.name = name
        self.calls = calls

    def note(self, what: str, *given: object) -> None:
        status = self.folder.path / "status"
        state = status.read_text().strip() if status.exists() else None
        journal = [path.name for path in self.folder.journal.glob("*.steps")]
        self.calls.append((self.name, what, state, journal, *given))

    def open(self, folder: RunFolder) -> None:
        self.folder = folder
        self.note("open")

    def begin(self, design: Design) -> None:
        super().begin(design)
        self.note("begin", design)

    def step(self, step: StepResult) -> None:
        self.note("step", step, self.place(step.number))

    def weights(self, number: int, weights: Mapping[Site, Moments]) -> None:
        self.note("weights", number, weights)

    def finish(self, results: Results, totals: Totals, design: Design) -> None:
        self.note("finish", results, totals, design)

    def close(self) -> None:
        self.note("close")


class Nothing(Writer):
    """Keeps nothing: a writer need not take part in anything."""


Make = Callable[..., tuple[Run, list[tuple[Any, ...]]]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes runs with two writers that share one list of calls; closes what is left open."""
    with ExitStack() as opened:

        def run(**options: Any) -> tuple[Run, list[tuple[Any, ...]]]:
            calls: list[tuple[Any, ...]] = []
            writers = [Recording("one", calls), Nothing(), Recording("two", calls)]
            made = Run(RunFolder.new(tmp_path, "mine"), writers, **options)
            opened.callback(made.close)
            return made, calls

        yield run


def measure(run: Run, steps: list[StepResult], design: Design | None = None) -> Results:
    run.begin(design or made_design())
    for step in steps:
        run.step(step)
    run.finish(RECORD)
    assert run.results is not None
    return run.results


def status(run: Run) -> str:
    return (run.folder.path / "status").read_text()


def test_every_writer_gets_every_call_in_order(make: Make) -> None:
    run, calls = make(config="a: 1\n")
    assert (run.folder.path / "config.yaml").read_text() == "a: 1\n"
    design, steps = made_design(), made_steps()
    results = measure(run, steps, design)
    run.close()
    expected = ["open", "begin", *["step"] * len(steps), "finish", "close", "close"]
    for writer in ("one", "two"):
        assert [what for name, what, *_ in calls if name == writer] == expected
    # One writer after the other, in the order in which they were given.
    assert [name for name, *_ in calls] == ["one", "two"] * len(expected)
    for place, (_, what, state, journal, *given) in enumerate(calls):
        ended = place >= len(calls) - 2  # until all files are complete, so is nothing
        assert state == (None if what == "open" else "complete" if ended else "running")
        assert journal == ([] if what == "open" else ["1-0.steps"])
        if what == "begin":
            assert given == [design]
        if what == "step":
            number = place // 2 - 2
            assert given == [steps[number], number]
        if what == "finish":
            assert given[0] is results
            assert given[1] is run.totals
            assert given[2] is design


def later(step: StepResult) -> StepResult:
    """The step as a device gives it, which is read when it is asked for."""
    return StepResult(step.number, lambda: step.outcomes, step.key)


def test_what_a_device_has_yet_to_give_is_kept_when_the_next_is_on_its_way(make: Make) -> None:
    run, _ = make()
    run.begin(made_design())
    first, second, third, *_ = made_steps()
    waiting = [later(first), later(second)]
    run.step(waiting[0])
    assert (len(run.measurement or ()), waiting[0].is_there) == (0, False)
    run.step(waiting[1])
    assert (len(run.measurement or ()), waiting[0].is_there) == (1, True)
    run.step(third)  # what is there waits for what comes before it
    assert (len(run.measurement or ()), waiting[1].is_there) == (3, True)
    run.finish(RECORD)
    steps = made_steps()
    results = measure(run, [later(step) for step in steps])
    other, _ = make()
    assert results == measure(other, steps)


def test_what_a_device_has_given_counts_where_a_run_is_stopped(make: Make) -> None:
    run, _ = make()
    steps = made_steps()
    run.begin(made_design())
    for step in steps:
        run.step(later(step))
    run.stop(RECORD, refused=False)
    other, _ = make()
    assert run.results == measure(other, steps)


def test_results_are_those_of_the_measurement_alone(make: Make, tmp_path: Path) -> None:
    run, _ = make()
    steps = made_steps()
    results = measure(run, steps[::-1])
    measurement = Measurement(tmp_path / "steps")
    for step in steps:
        measurement.add(step)
    assert exact(run.totals) == exact(measurement.totals())
    assert results == summarise(measurement.totals(), made_design(), RECORD)
    measurement.close()


def test_what_belongs_to_no_batch_of_the_plan_reaches_no_writer(make: Make) -> None:
    run, calls = make()
    run.begin(made_design())
    before = len(calls)
    run.step(StepResult(-1, {"original": Outcome()}))
    assert len(calls) == before
    assert run.measurement is not None
    assert len(run.measurement) == 0


def test_the_journal_stays_beside_what_was_written(make: Make) -> None:
    run, _ = make()
    measure(run, made_steps())
    assert sorted(path.name for path in run.folder.path.iterdir()) == ["journal", "status"]
    assert status(run) == "complete\n"
    assert run.measurement is None
    left = Measurement.read(run.folder.journal / "1-0.steps")
    assert [exact(step) for step in left] == [exact(step) for step in made_steps()]
    left.close()


def test_the_journal_of_an_interrupted_run_stays_and_can_be_read(make: Make) -> None:
    run, calls = make()
    steps = made_steps()
    run.begin(made_design())
    for step in steps[:5]:
        run.step(step)
    run.close()
    run.folder.set_status("interrupted")
    assert [what for _, what, *_ in calls].count("finish") == 0
    assert status(run) == "interrupted\n"
    left = Measurement.read(run.folder.journal / "1-0.steps")
    assert [exact(step) for step in left] == [exact(step) for step in steps[:5]]
    left.close()


def test_the_journal_stays_where_a_writer_fails(make: Make, tmp_path: Path) -> None:
    class Failing(Writer):
        def finish(self, results: Results, totals: Totals, design: Design) -> None:
            raise OSError("no space left on device")

    run, _ = make()
    run.writers = [Failing()]
    with pytest.raises(OSError, match="no space"):
        measure(run, made_steps())
    assert status(run) == "running\n"
    left = Measurement.read(run.folder.journal / "1-0.steps")
    assert len(left) == len(made_steps())
    left.close()


def test_a_closed_run_holds_no_file_open(make: Make) -> None:
    run, _ = make()
    run.begin(made_design())
    run.step(made_steps()[0])
    measurement = run.measurement
    assert measurement is not None
    run.close()
    assert measurement.own.is_closed


def test_two_measurements_one_after_the_other(make: Make) -> None:
    run, calls = make()
    steps, count = made_steps(), len(made_steps())
    first = measure(run, steps)
    totals = exact(run.totals)
    other = replace(made_design(), remarks=("another",))
    second = measure(run, made_steps(seed=1), other)
    assert exact(run.totals) != totals
    assert first.variants != second.variants
    assert second.warnings[0] == "another"
    assert len(list(run.folder.journal.glob("*.steps"))) == 2
    # Each begins anew, and for writers the steps go on counting.
    places = [call[5] for call in calls if call[:2] == ("two", "step")]
    assert places == list(range(2 * count))
    begun = [call[4] for call in calls if call[:2] == ("one", "begin")]
    assert begun == [made_design(), other]


def test_a_measurement_after_one_that_broke_off_begins_anew(make: Make) -> None:
    run, _ = make()
    run.begin(made_design())
    run.step(made_steps(seed=1)[0])
    broken = run.measurement
    results = measure(run, made_steps())
    assert broken is not None
    assert broken.own.is_closed
    other, _ = make()
    assert results == measure(other, made_steps())


def test_a_training_makes_no_results(make: Make) -> None:
    run, calls = make()
    run.begin_training(made_design(), 0)
    assert run.measurement is None
    step, weights = StepResult(3, {"original": Outcome()}), {SITE: Moments(4)}
    run.observe(step)
    run.weights(3, weights)
    assert not list(run.folder.journal.glob("*.steps"))
    assert [call[1:] for call in calls if call[0] == "two"][-2:] == [
        ("step", "running", [], step, 3),
        ("weights", "running", [], 3, weights),
    ]


class Broken(Writer):
    """Fails to write, or to close, as where the disk is full."""

    def __init__(self, what: str) -> None:
        self.what = what

    def finish(self, *_: object) -> None:
        if self.what == "finish":
            raise OSError("no space left")

    def close(self) -> None:
        if self.what == "close":
            raise OSError("no space left")


@pytest.mark.parametrize("what", ["finish", "close"])
def test_what_was_measured_is_told_though_it_cannot_be_written(what: str, tmp_path: Path) -> None:
    calls: list[tuple[Any, ...]] = []
    run = Run(RunFolder.new(tmp_path, "mine"), [Broken(what), Recording("after", calls)])
    run.begin(made_design())
    for step in made_steps():
        run.step(step)
    with pytest.raises(OSError, match="no space"):
        run.finish(RECORD)
    assert run.results is not None
    with suppress(OSError):
        run.stop(None, refused=False)
    assert status(run) == "interrupted\n"
    assert calls[-1][1] == "close"


@pytest.mark.parametrize("begun", [False, True])
def test_a_refusal_removes_nothing_that_was_measured(begun: bool, tmp_path: Path) -> None:
    run = Run(RunFolder.new(tmp_path, "mine"), [])
    if begun:
        measure(run, made_steps())
    run.stop(None, refused=True)
    assert run.folder.path.exists() is begun


def test_what_was_measured_before_an_end_makes_partial_results(make: Make) -> None:
    run, calls = make()
    run.begin(made_design())
    steps = made_steps()
    for step in steps[:5]:
        run.step(step)
    run.stop(RECORD, refused=False)
    assert status(run) == "interrupted\n"
    assert run.results is not None
    assert run.results.run.partial
    assert [what for name, what, *_ in calls if name == "one"][-3:] == ["finish", "close", "close"]


def keyed_steps() -> list[StepResult]:
    steps = made_steps()
    for step in steps:
        step.key = key_of(step.number)
    return steps


def test_one_that_is_resumed_tells_writers_all_and_measures_the_same(tmp_path: Path) -> None:
    steps, design = keyed_steps(), made_design()
    folder = RunFolder.new(tmp_path, "mine")
    first = Run(folder, [])
    first.begin(design)
    for step in steps[:4]:
        first.step(step)
    first.close()
    calls: list[tuple[Any, ...]] = []
    again = Run(RunFolder(folder.path), [Recording("one", calls)], resumed=True)
    assert again.recall.batches == 4
    measure(again, steps, design)
    assert [given[0] for _, what, _, _, *given in calls if what == "step"] == steps
    # The earlier file holds nothing that the present one does not hold.
    assert [path.name for path in folder.journal.glob("*.steps")] == ["2-0.steps"]


def test_a_journal_that_holds_more_stays(tmp_path: Path) -> None:
    steps, design = keyed_steps(), made_design()
    folder = RunFolder.new(tmp_path, "mine")
    first = Run(folder, [])
    measure(first, steps, design)
    first.close()
    again = Run(RunFolder(folder.path), [], resumed=True)
    again.begin(design)
    again.step(steps[0])
    again.finish(RECORD)
    assert len(list(folder.journal.glob("*.steps"))) == 2


@pytest.mark.parametrize("what", ["text", "weights"])
def test_what_has_changed_is_refused(what: str, tmp_path: Path) -> None:
    settings = dict.fromkeys(("model", "weights", "data", "text"), "a")
    folder = RunFolder.new(tmp_path, "mine")
    run = Run(folder, [])
    run.begin(replace(made_design(), settings=settings))
    run.step(made_steps()[0])
    run.close()
    changed = replace(made_design(), settings=settings | {what: "b"})
    again = Run(RunFolder(folder.path), [], resumed=True)
    with pytest.raises(ConfigError, match="is not what it was when this run began"):
        again.begin(changed)
    asked = {"text": "data", "weights": "model"}[what]
    again.begin(replace(changed, settings=dict(changed.settings) | {asked: "b"}))
    again.close()


def test_a_journal_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.new(tmp_path, "mine")
    measure(Run(folder, []), made_steps())
    monkeypatch.setattr("harness.evaluation.recall.VERSION", 2)
    with pytest.raises(ConfigError, match="is a journal of version 1, not 2"):
        Run(RunFolder(folder.path), [], resumed=True)


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine")
    other = RunFolder(folder.path)
    with pytest.raises(ConfigError, match="another process is writing"):
        other.take()
    folder.release()
    other.take()
    del other  # or where nobody has it any more
    gc.collect()
    folder.take()
