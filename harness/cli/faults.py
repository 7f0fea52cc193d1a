"""Ends of a run that are no fault of the program: memory or disk that ran out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from harness.base.memory import ran_out

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def told(error: BaseException, folder: object) -> str | None:
    """Says in one line what ran out; None for any other fault.

    Args:
        error: What ended the run.
        folder: The folder of the run; None where there is none yet.
    """
    so_far = f"; what was measured so far lies in {folder}" if folder else ""
    if ran_out(error):
        return (
            "memory ran out; choose a smaller data.batch_size, data.prompt_batch_size or "
            f"data.max_length, or model.dtype=bfloat16{so_far}"
        )
    text = str(error).lower()
    for words in map(os.strerror, _DISK):
        if words.lower() in text:
            place = getattr(error, "filename", None) or folder or Path.cwd()
            return f"{place} cannot be used: {words}{so_far}"
    return None
