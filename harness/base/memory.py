"""Memory that was freed and yet belongs to the process."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Gives freed memory back to the system, where the C library keeps it for later (glibc).

    What is freed between two blocks that are still in use stays, and takes as much room as if it
    were in use itself: the work on a few hundred tensors, of which each leaves a small result,
    leaves a few hundred megabytes.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
