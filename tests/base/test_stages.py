"""What stderr says while a run goes on, on a terminal and elsewhere."""

from __future__ import annotations

import io
import time

import pytest

from harness.base import stages


class Clock:
    """Stands in for the clock of the machine."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stages, "time", clock)
    return clock


def test_a_line_at_once_and_then_after_a_silence(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with stages.stage("scoring", total=200) as stage:
        assert capsys.readouterr().err == "scoring\n"
        clock.now += 10
        stage.advance(10)
        assert capsys.readouterr().err == ""
        stage.say("1/4 batches, ppl 65.8")
        clock.now += 30
        stages.current().advance(40)  # 50 of 200 in 40 seconds
        assert capsys.readouterr().err == "scoring: 1/4 batches, ppl 65.8, 0:02:00 left\n"
        clock.now += 5
        stage.advance(150)
        stage.say("4/4 batches")
    output = capsys.readouterr()
    assert output.err == "scoring: 4/4 batches, 0:00:45 in all\n"
    assert output.out == ""


def test_a_short_stage_is_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with stages.stage("loading demo"):
        clock.now += 0.5
    assert capsys.readouterr().err == "loading demo\n"


def test_within_a_stage_another_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with stages.stage("outer"):
        with stages.stage("inner") as inner:
            inner.advance(1)
            inner.say("hidden")
        assert stages.current().name == "outer"
    assert stages.current().name == ""
    assert capsys.readouterr().err == "outer\n"


def test_a_stage_ends_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), stages.stage("loading"):
        raise KeyError
    assert stages.current().name == ""


def test_a_terminal_gets_a_bar_that_leaves_the_cursor_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with stages.stage("scoring", total=2) as stage:
        time.sleep(0.01)
        stage.advance(1)
        stage.say("1/2 batches")
    shown = terminal.getvalue()
    assert "scoring" in shown
    assert "50%" in shown
    assert "1/2 batches" in shown
    assert shown.rstrip().endswith("\x1b[?25h")
