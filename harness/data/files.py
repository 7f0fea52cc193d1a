"""Local files: which ones a path means, and of which format they are."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from harness.data.splits import Found, files_of_split, no_such_split, same_split
from harness.errors import ConfigError

_TEXTS = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".raw", ".tokens")
_FORMATS = dict.fromkeys(_TEXTS, "txt") | {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_ACCEPTED = f"txt, md, jsonl, json, csv, tsv or parquet, also packed ({', '.join(_PACKED)})"
# Files that describe a data set and are none of its text.
_DESCRIPTIONS = ("readme", "license", "licence", "dataset_info", "dataset_infos", "dataset_dict")
_SAVED = "state.json"
_SAVED_SPLITS = "dataset_dict.json"


def at(entry: str) -> Path:
    """The path that is meant: what exists, whatever it looks like, or else a path from a home."""
    # Unlike those of Path, these take a text too long for a name, and a home that nobody has.
    return Path(entry if os.path.exists(entry) else os.path.expanduser(entry))


def file_format(path: Path) -> str | None:
    """Tells a format by the ending, or by what stands in a folder.

    Returns:
        ``txt``, ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet``, ``saved`` for the folder of one
        split that ``save_to_disk`` of ``datasets`` made, or None.
    """
    kind = _FORMATS.get(_unpacked_name(path).suffix)
    return "saved" if kind is None and os.path.isfile(path / _SAVED) else kind


def packing(path: Path) -> str:
    """Returns the ending that says how a file is packed, nothing where it is not."""
    return next((ending for ending in _PACKED if path.name.lower().endswith(ending)), "")


def is_local(dataset: str | list[str]) -> bool:
    """Returns whether a data set is named by path: it exists, or could only be a path.

    A list always is. A name that is no file and has at most one slash may be a hub id.
    """
    if isinstance(dataset, list):
        return True
    path = at(dataset)
    shape = dataset.startswith((".", "~")) or dataset.count("/") > 1 or path.is_absolute()
    return (
        shape
        or _unpacked_name(path).suffix in _FORMATS
        or glob.has_magic(dataset)
        or os.path.exists(path)
    )


def absolute_paths(dataset: str | list[str]) -> str | list[str]:
    """Returns the data set with its paths made absolute, hub ids and ``demo`` as they are."""
    if isinstance(dataset, list):
        return [_absolute(entry) for entry in dataset]
    return dataset if dataset in ("", "demo") or not is_local(dataset) else _absolute(dataset)


def _absolute(entry: str) -> str:
    path = at(entry)
    pattern = glob.has_magic(entry) and not os.path.exists(path)
    # The folder in front of a pattern is none, whatever it is called.
    here = glob.escape(str(Path.cwd())) if pattern else Path.cwd()
    return str(here / path)


def find_files(dataset: str | list[str], split: str) -> Found:
    """Finds the files that a path, a pattern or a list of them means.

    A path that exists is that file, whatever characters are in it. A file is read whole, whichever
    split is wanted; of a folder whose files all say which split they are, those of the wanted one
    are taken, of any other folder all.

    Args:
        dataset: A path, a pattern with ``*``, ``?`` or ``[...]``, or a list of either.
        split: The split that is wanted.

    Returns:
        The files; those of folders and patterns are sorted by name.

    Raises:
        ConfigError: A path that is not there or of another format, or a folder without the split.
    """
    parts = [
        _found_at(path, split)
        for entry in ([dataset] if isinstance(dataset, str) else dataset)
        for path in _matches(entry)
    ]
    return Found(
        [_named_in_utf8(path) for part in parts for path in part.files],
        next((part.split for part in reversed(parts) if part.split != "all"), "all"),
        [note for part in parts for note in part.notes],
    )


def _matches(entry: str) -> list[Path]:
    path = at(entry)
    if os.path.exists(path):
        return [path]
    found = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(entry) else []
    if not found:
        where = "" if path.is_absolute() else f" below {Path.cwd()}"
        reason = f"no such file or folder{where}; give {_ACCEPTED}, or a hub id"
        raise ConfigError("data.dataset", entry, reason)
    return [Path(match) for match in found]


def _found_at(path: Path, split: str) -> Found:
    if os.path.isfile(path / _SAVED_SPLITS):
        there = [part for part in sorted(path.iterdir()) if file_format(part) == "saved"]
        chosen = [part for part in there if same_split(part.name, split)]
        if not chosen:
            raise no_such_split(path, [part.name for part in there], split)
        return Found(chosen[:1], split)
    if file_format(path) == "saved":
        return Found([path])
    if path.is_dir():
        return _folder_files(path, split)
    if file_format(path) is None or not path.is_file():
        raise ConfigError("data.dataset", str(path), f"not a file of {_ACCEPTED}")
    return Found([path])


def _folder_files(folder: Path, split: str) -> Found:
    inside = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    inside = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    texts = [path for path in inside if _holds_text(path)]
    if not texts:
        raise ConfigError("data.dataset", str(folder), f"a folder without a file of {_ACCEPTED}")
    found = files_of_split(folder, texts, split)
    others = [path for path in inside if path not in set(texts)]
    if others:
        found.notes.append(
            f"of {str(folder)!r} is left out, as no text of the data set: "
            f"{len(others)} of {len(inside)} files, {others[0].name!r} for one"
        )
    return found


def _holds_text(path: Path) -> bool:
    name = _unpacked_name(path)
    described = name.stem in _DESCRIPTIONS and name.suffix in (".json", *_TEXTS)
    return name.suffix in _FORMATS and not described


def _unpacked_name(path: Path) -> Path:
    return Path(path.name.lower().removesuffix(packing(path)))


def _named_in_utf8(path: Path) -> Path:
    """Refuses a name that no results file could hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        reason = "the name of this file is not UTF-8; rename it"
        raise ConfigError("data.dataset", str(path), reason) from None
    return path
