"""Local files: which ones a path means, and how a text file is read."""

from __future__ import annotations

import glob
import gzip
import re
from pathlib import Path

from harness.errors import ConfigError

_FORMATS = {
    ".txt": "txt",
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
_ACCEPTED = "txt, jsonl, json, csv or parquet, also with .gz"
_SPLIT_WORDS = {
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
# Files that describe a data set and are none of its text.
_DESCRIPTIONS = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
)


def file_format(path: Path) -> str | None:
    """Returns ``txt``, ``json``, ``csv`` or ``parquet`` by the ending, None for any other file."""
    name = path.name.lower().removesuffix(".gz")
    return _FORMATS.get(Path(name).suffix)


def is_local(dataset: str | list[str]) -> bool:
    """Returns whether a data set is named by path: it exists, or could only be a path.

    A list always is. A name that is no file and has at most one slash may be a hub id.
    """
    if isinstance(dataset, list):
        return True
    path = Path(dataset).expanduser()
    shape = dataset.startswith((".", "~")) or dataset.count("/") > 1 or path.is_absolute()
    ending = file_format(path) is not None
    return shape or ending or glob.has_magic(dataset) or path.exists()


def absolute_paths(dataset: str | list[str]) -> str | list[str]:
    """Returns the data set with its paths made absolute, hub ids and ``demo`` as they are."""
    if isinstance(dataset, list):
        return [str(Path(path).expanduser().absolute()) for path in dataset]
    if dataset in ("", "demo") or not is_local(dataset):
        return dataset
    return str(Path(dataset).expanduser().absolute())


def find_files(dataset: str | list[str], split: str, split_key: str) -> tuple[list[Path], str]:
    """Finds the files that a path, a pattern or a list of them means.

    A file is read whole, whichever split is wanted. In a folder whose files or subfolders are
    named after splits (``train.jsonl``, ``validation/``, ``wiki-test-00000.parquet``) those of the
    wanted split are taken, in any other folder all of them.

    Args:
        dataset: A path, a pattern with ``*``, ``?`` or ``[...]``, or a list of either.
        split: The split that is wanted.
        split_key: The configuration key of the split, for errors.

    Returns:
        The files, folders and patterns sorted by name, and the split that they are:
        ``all`` where they have none.

    Raises:
        ConfigError: A path that is not there or of another format, or a folder without the split.
    """
    files: list[Path] = []
    read_split = "all"
    for entry in [dataset] if isinstance(dataset, str) else dataset:
        for path in _matches(entry):
            if path.is_dir():
                found, folder_split = _folder_files(path, split, split_key)
                files += found
                read_split = folder_split if folder_split != "all" else read_split
            elif file_format(path) is None:
                raise ConfigError("data.dataset", str(path), f"not a file of {_ACCEPTED}")
            else:
                files.append(path)
    return files, read_split


def _matches(entry: str) -> list[Path]:
    path = Path(entry).expanduser()
    if path.exists():
        return [path]
    found = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(entry) else []
    if not found:
        where = "" if path.is_absolute() else f" below {Path.cwd()}"
        reason = f"no such file or folder{where}; give {_ACCEPTED}, or a hub id"
        raise ConfigError("data.dataset", entry, reason)
    return [Path(match) for match in found]


def _folder_files(folder: Path, split: str, split_key: str) -> tuple[list[Path], str]:
    inside = sorted(path.relative_to(folder) for path in folder.rglob("*") if file_format(path))
    inside = [
        path
        for path in inside
        if (folder / path).is_file()
        and path.name not in _DESCRIPTIONS
        and not any(part.startswith(".") for part in path.parts)
    ]
    if not inside:
        raise ConfigError("data.dataset", str(folder), f"a folder without a file of {_ACCEPTED}")
    split_of = {path: _split_of(path) for path in inside}
    there = sorted({name for name in split_of.values() if name})
    if not there:
        return [folder / path for path in inside], "all"
    chosen = [folder / path for path in inside if split_of[path] == _SPLIT_WORDS.get(split, split)]
    if not chosen:
        reason = f"the folder {folder} has the splits {', '.join(there)}"
        raise ConfigError(split_key, split, reason)
    return chosen, split


def _split_of(path: Path) -> str | None:
    """Returns the split that a path within a folder is named after; the file's own name rules."""
    for part in reversed(path.parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return None


def read_text(path: Path) -> str:
    """Reads a text file exactly as it is: UTF-8, line ends untouched, ``.gz`` unpacked.

    Raises:
        ConfigError: The file cannot be read or is not UTF-8.
    """
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw).decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 (byte {error.start} of the file); convert it first"
    except (OSError, EOFError) as error:
        reason = f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
    raise ConfigError("data.dataset", str(path), reason)
