"""What never ends is ended, and what ends in time is left alone."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from harness.data.time_limit import time_limit


def test_what_takes_too_long_is_ended():
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"it takes longer than 0\.05 seconds"), time_limit(0.05):
        sum(0 for _ in iter(int, 1))  # zeros without end
    assert time.monotonic() - began < 5


def test_what_ends_in_time_leaves_no_alarm_behind():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0.05):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_another_thread_has_no_limit():
    done = []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
