"""Memory that ran out, and memory that was freed and yet belongs to the process."""

from __future__ import annotations

import ctypes

_WORDS = ("out of memory", "outofmemoryerror", "can't allocate memory", "cannot allocate memory")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no more memory, on a device or on the host."""
    # Libraries that are not written in Python raise errors of their own, with the system's words.
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(words in text for words in _WORDS)


def give_back() -> None:
    """Gives freed memory back to the system, where the C library keeps it for later (glibc).

    What is freed between two blocks that are still in use stays, and takes as much room as if it
    were in use itself: the work on a few hundred tensors, of which each leaves a small result,
    leaves a few hundred megabytes.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
