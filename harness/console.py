"""What is said on the terminal beside results: hints of our own, none of the libraries'."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Each is a hint for other uses of the library, and wrong or useless here.
_HINTS = (
    r".*does not have many workers.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*Checkpoint directory .* exists and is not empty.*",
)


def quiet() -> None:
    """Leaves warnings that a user can act on, and silences advertisements and hints."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for hint in _HINTS:
        warnings.filterwarnings("ignore", message=hint)


@contextmanager
def quiet_transformers(*, progress: bool) -> Iterator[None]:
    """Keeps transformers from reporting, within the block, what is checked of it elsewhere.

    Args:
        progress: Whether bars are shown, which are for downloads alone.
    """
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity_error()
        if not progress:
            logging.disable_progress_bar()
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def note(line: str) -> None:
    """Says on stderr what a user should know though nothing is wrong."""
    print(f"note: {line}", file=sys.stderr)


def interrupted(folder: object = None) -> int:
    """Says on stderr that the user stopped a run, and returns the exit status for it.

    Args:
        folder: Where what was measured so far lies; None where nothing was.
    """
    so_far = "before anything was measured"
    if folder is not None:
        so_far = f"what was measured so far lies in {folder}"
    print(f"interrupted: {so_far}", file=sys.stderr)
    return 130
