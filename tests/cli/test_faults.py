"""Memory or disk that runs out is told in one line; any other fault is none of it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from numpy import empty

from harness.cli.faults import told


def too_much(what: str) -> Exception:
    """What a library raises that is asked for more memory than there is."""
    try:
        torch.empty(1 << 55) if what == "torch" else empty(1 << 55)
    except (RuntimeError, MemoryError) as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        too_much("torch"),
        too_much("numpy"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory(error: Exception) -> None:
    line = told(error, "logs/a/version_0")
    assert line is not None
    assert line.startswith("memory ran out; choose a smaller data.batch_size, ")
    assert "data.max_length" in line
    assert line.endswith("what was measured so far lies in logs/a/version_0")


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/full/file"), "/full/file"),
        (OSError(errno.EROFS, "Read-only file system", "/read/only"), "/read/only"),
        (PermissionError(errno.EACCES, "Permission denied", "/not/mine"), "/not/mine"),
        (OSError(errno.ENOSPC, "No space left on device"), "logs/a"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "logs/a"),
    ],
)
def test_disk(error: Exception, place: str) -> None:
    line = told(error, "logs/a")
    assert line is not None
    assert line.startswith(f"{place} cannot be used: ")
    assert (told(OSError(errno.ENOSPC, "No space left on device"), None) or "").startswith(
        str(Path.cwd())
    )


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("shapes differ"), OSError(errno.ENOENT, "No such file")]
)
def test_other_faults(error: Exception) -> None:
    assert told(error, "logs/a") is None
