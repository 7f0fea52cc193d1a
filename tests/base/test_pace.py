"""How long the others are waited for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harness.base import pace
from harness.base.processes import LONGEST


def test_what_is_slow_is_not_taken_for_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    kept = pace.Pace(processes=2)

    def after(seconds: float, kind: str, counts: bool = True) -> timedelta:
        kept.begin()
        now[0] += seconds
        if counts:
            kept.count(kind, kept.taken(), 0)
        return kept.limit(kind)

    # One that has done nothing of the plan yet knows nothing of how long that takes.
    assert after(0.1, "windows", counts=False) == LONGEST
    assert after(10.0, "windows") == timedelta(seconds=200)
    # The first takes longer in each process, and the other's is still to come.
    assert after(0.1, "windows") == timedelta(seconds=200)
    kept.count("windows", timedelta(seconds=20), 1)
    assert after(0.1, "windows") == timedelta(seconds=45)
    assert after(5.0, "windows") == timedelta(seconds=100)
    assert after(0.1, "windows") == timedelta(seconds=100)
    assert after(0.1, "prompts", counts=False) == LONGEST
    kept.count("windows", timedelta(seconds=8), 1)
    assert after(0.1, "windows", counts=False) == timedelta(seconds=160)
