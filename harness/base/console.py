"""What is said on the terminal beside results: hints of our own, none of the libraries'."""

from __future__ import annotations

import logging
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Each is a hint for other uses of the library, and wrong or useless here.
_HINTS = (
    r".*does not have many workers.*",
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*your dataloader is not resumable.*",
    r".*`srun` command is available on your system but is not used.*",
)

# Categories of characters that act on a terminal, or on what stands beside them.
_ACTING = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")

# One process of several speaks.
_speaks = True
# Notes that were made here, and those that another process has yet to say.
_noted: set[str] = set()
_unsaid: list[str] = []


INTERRUPTED = 143
"""Exit status of a run that a signal has ended, whichever signal it was."""


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


def visible(text: str) -> str:
    """The text with characters that would act on the terminal or reorder the line spelt out."""
    return "".join(
        character
        if character == "\n" or unicodedata.category(character) not in _ACTING
        else f"\\x{ord(character):02x}"
        for character in text.replace("\t", "    ")
    )


def note(line: str) -> None:
    """Says on stderr what a user should know though nothing is wrong."""
    if not _speaks:
        _unsaid.append(line)
        return
    _noted.add(line)
    _say("note", line)


def unsaid() -> list[str]:
    """Hands over the notes that this process has made and not said."""
    lines = list(_unsaid)
    _unsaid.clear()
    return lines


def note_of(rank: int, lines: Iterable[str]) -> None:
    """Says what another process has noted and this one has not.

    Args:
        rank: Which process.
        lines: Its notes.
    """
    for line in lines:
        if line not in _noted:
            _noted.add(line)
            note(f"process {rank}: {line}")


def refused(line: str) -> int:
    """Says on stderr what is refused, and returns the exit status for it."""
    _say("refused", line)
    return 2


def stopped(line: str) -> int:
    """Says on stderr what ended a run that could not go on, and returns the exit status for it."""
    _say("stopped", line)
    return 1


def interrupted(folder: object = None) -> int:
    """Says on stderr that the user stopped a run, and returns the exit status for it.

    Args:
        folder: Where what was measured so far lies; None where nothing was.
    """
    so_far = "before anything was measured"
    if folder is not None:
        so_far = f"what was measured so far lies in {folder}; --resume {folder} goes on"
    _say("interrupted", so_far)
    return INTERRUPTED


def be_silent(silent: bool) -> None:
    """Says nothing from now on, where another process speaks for all, or speaks again."""
    global _speaks
    _speaks = not silent


def speaks() -> bool:
    """Whether this process is the one that speaks."""
    return _speaks


def _say(kind: str, line: str) -> None:
    if not _speaks:
        return
    # One line, whatever a file or a foreign name brings into it.
    print(f"{kind}: {visible(line)}".replace("\n", "\\n"), file=sys.stderr)
