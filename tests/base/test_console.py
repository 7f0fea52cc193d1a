"""What is said on the terminal is one line that cannot act on it."""

from __future__ import annotations

import pytest

from harness.base.console import interrupted, note, note_of, refused, stopped, visible
from harness.errors import ConfigError


def test_what_acts_on_a_terminal_is_spelt_out() -> None:
    shown = r"a\x1b[2J\x07\x9b\x202e\x2028\x200b\x0d b"
    assert visible("a\x1b[2J\x07\x9b\u202e\u2028\u200b\r\tb") == shown.replace(" b", "    b")
    for text in ("plain, ünïcode, 東京都, 🙂", "two\nlines", ""):
        assert visible(text) == text


def test_every_kind_of_line_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    hostile = "x\x1b[2J\ny"
    note(hostile)
    assert refused(str(ConfigError(hostile, hostile, hostile))) == 2
    assert stopped(hostile) == 1
    assert interrupted(hostile) == 143
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        *("note", "refused", "stopped", "interrupted")
    ]
    assert "\x1b" not in err
    assert err.count(r"x\x1b[2J\ny") == 7


def test_what_several_processes_note_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    note_of(1, ["few batches, as test_console knows"])
    note_of(2, ["few batches, as test_console knows"])
    said = "note: process 1: few batches, as test_console knows\n"
    assert capfd.readouterr().err == said
