"""Splits of a folder: which of its files are for training, for validation, for the test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError

_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
}
# A split, after what may stand before it and before the number of a shard: data-test-00-of-02.csv
_NAME = re.compile(
    rf"(?:(?P<prefix>.+)[-_. ])?(?P<split>{'|'.join(_WORDS)})"
    r"(?:[-_.]\d+)*(?:[-_.]of[-_.]\d+)?(?:-[0-9a-f]{16})?\.[a-z]+(?:\.(?:gz|zst|bz2|xz))?",
    re.IGNORECASE,
)


def same_split(one: str, other: str) -> bool:
    """Returns whether two names mean the same split, as ``val`` and ``validation`` do."""
    return _WORDS.get(one, one) == _WORDS.get(other, other)


def chosen_files(
    folder: Path, inside: Sequence[Path], split: str, split_key: str
) -> tuple[Sequence[Path], str, list[str]]:
    """Chooses the files of a split, where every file of a folder says which split it is.

    Args:
        folder: The folder, for what is said.
        inside: Its files, relative to it.
        split: The split that is wanted.
        split_key: The configuration key of the split, for errors.

    Returns:
        The files; the split that they are, ``all`` where the folder has none; and what a user
        should know of the choice.

    Raises:
        ConfigError: The folder has splits, and not this one.
    """
    here = repr(str(folder))
    split_of = {path: _split_of(path) for path in inside}
    if not _all_say(list(split_of.values())):
        notes = []
        if any(found and not found[0] for found in split_of.values()):
            other = next(path for path, found in split_of.items() if not found or found[0])
            notes.append(f"{here} is read whole, as {str(other)!r} does not say which split it is")
        return inside, "all", notes
    there = sorted({found[1] for found in split_of.values() if found})
    chosen = [path for path, found in split_of.items() if found and same_split(found[1], split)]
    if not chosen:
        raise ConfigError(
            split_key, split, f"the folder {folder} has the splits {', '.join(there)}"
        )
    others = [name for name in there if not same_split(name, split)]
    told = f"of {here} is read, as {split}: {len(chosen)} of {len(inside)} files"
    return chosen, split, [f"{told}; the others are of {', '.join(others)}"] if others else []


def _split_of(path: Path) -> tuple[str, str] | None:
    """What stands before a split in the name of a file, nothing or a title; and the split.

    ``test.csv``, ``data-test-00001.csv`` and any file in a folder ``test`` say it by themselves.
    """
    match = _NAME.fullmatch(path.name)
    if match and (match["prefix"] or "data").lower() == "data":
        return "", _WORDS[match["split"].lower()]
    for part in reversed(path.parent.parts):
        if part.lower() in _WORDS:
            return "", _WORDS[part.lower()]
    return (match["prefix"], _WORDS[match["split"].lower()]) if match else None


def _all_say(found: list[tuple[str, str] | None]) -> bool:
    """A title says nothing, unless it is one title with several splits: ptb.train, ptb.test."""
    titled = {each for each in found if each and each[0]}
    one_of_several = len({title for title, _ in titled}) == 1 and len(titled) > 1
    return None not in found and (not titled or one_of_several)
