"""How long the others are waited for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harness.base import pace
from harness.base.processes import LONGEST, Processes


def test_what_is_slow_is_not_taken_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    kept = pace.Pace()

    def after(seconds: float, kind: str, counts: bool = True) -> timedelta:
        kept.begin()
        now[0] += seconds
        if counts:
            kept.count(kind, kept.taken())
        return kept.limit(kind)

    # One that has done nothing of the plan yet knows nothing of how long that takes.
    assert after(0.1, "windows", counts=False) == LONGEST
    assert after(0.1, "windows") == timedelta(seconds=45)
    assert after(10.0, "windows") == timedelta(seconds=200)
    assert after(0.1, "windows") == timedelta(seconds=200)
    assert after(0.1, "prompts", counts=False) == LONGEST
    kept.count("windows", timedelta(seconds=20))  # another process's
    assert after(0.1, "windows", counts=False) == timedelta(seconds=400)


def test_one_process_meets_nobody() -> None:
    alone = Processes()
    assert alone.is_first
    assert alone.meet("here") == ["here"]
    assert alone.share("mine") == "mine"
    assert alone.send([], b"mine") == {}
    assert alone.fail("on fire", 1)
