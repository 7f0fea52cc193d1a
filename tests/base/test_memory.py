"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.base.memory import give_back

MEBIBYTE = 2**20


def resident() -> int:
    """Memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep nothing")
def test_what_was_freed_between_blocks_in_use_goes_back() -> None:
    blocks = [torch.ones(MEBIBYTE // 16) for _ in range(400)]  # 100 MiB in blocks of 256 KiB
    kept = blocks[::40]
    before = resident()
    del blocks
    give_back()
    assert before - resident() > 50 * MEBIBYTE
    assert all(bool((block == 1).all()) for block in kept)


def test_a_library_that_keeps_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    give_back()
