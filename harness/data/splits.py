"""Splits of a folder: which of its files are for training, for validation, for the test."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Found:
    """The files that a data set is made of.

    Args:
        files: In the order in which they are read.
        split: The split that they are; ``all`` where they have none.
        notes: What was left out of folders, one sentence each.
    """

    files: list[Path]
    split: str = "all"
    notes: list[str] = field(default_factory=list)


def files_of_split(folder: Path, inside: list[Path], split: str) -> Found:
    """Chooses the files of a split, where every file of a folder says which split it is.

    Args:
        folder: The folder.
        inside: Its files, relative to it.
        split: The split that is wanted.

    Raises:
        ConfigError: The folder has splits, and not this one.
    """
    here = repr(str(folder))
    split_of = {path: _split_of(path) for path in inside}
    if not _all_say(list(split_of.values())):
        whole = Found([folder / path for path in inside])
        if any(found and not found[0] for found in split_of.values()):
            other = next(path for path, found in split_of.items() if not found or found[0])
            reason = f"as {str(other)!r} does not say which split it is"
            whole.notes.append(f"{here} is read whole, {reason}")
        return whole
    names = {path: found[1] for path, found in split_of.items() if found}
    chosen = [folder / path for path, name in names.items() if same_split(name, split)]
    if not chosen:
        raise no_such_split(folder, names.values(), split)
    others = sorted({name for name in names.values() if not same_split(name, split)})
    told = f"of {here} is read, as {split}: {len(chosen)} of {len(inside)} files"
    notes = [f"{told}; the others are of {', '.join(others)}"] if others else []
    return Found(chosen, split, notes)


def no_such_split(folder: Path, there: Iterable[str], split: str) -> ConfigError:
    """What says that a folder has other splits than the one that is wanted."""
    reason = f"the folder {folder} has the splits {', '.join(sorted(set(there)))}"
    return ConfigError("data.splits", split, reason)


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
