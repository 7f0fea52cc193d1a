"""Whether two run folders hold the same, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import parquet
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

# What differs from run to run: when, where and by how many processes it was done.
_OWN = ("run", "journal", "status", "config.yaml", "report.md")


def differences(one: Path, other: Path) -> list[str]:
    """The files that differ between two run folders, beside what tells of the run itself."""
    names = sorted({name for folder in (one, other) for name in files(folder)})
    return [name for name in names if not _equal(one, other, name)]


def files(folder: Path) -> list[str]:
    """Files of results, and the folders of TensorBoard's."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = {
        f"{path.parent}/" if "tfevents" in path.name else str(path)
        for path in found
        if path.parts[0] not in _OWN
    }
    return sorted(names)


def _equal(one: Path, other: Path, name: str) -> bool:
    if name not in files(one) or name not in files(other):
        return False
    if name.endswith("/"):
        return list(events(one / name)) == list(events(other / name))
    if name == "results.json":
        return _results(one / name) == _results(other / name)
    if name.endswith(".parquet"):
        return bool(parquet.read_table(one / name).equals(parquet.read_table(other / name)))
    return (one / name).read_bytes() == (other / name).read_bytes()


def _results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    del found["run"]
    return found


def events(folder: Path) -> Iterator[tuple[int, str, bytes]]:
    """Steps, tags and values in the order in which they were written."""
    for path in sorted(folder.glob("*tfevents*")):
        for data in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(data)
            for value in event.summary.value:
                # The page of hyperparameters holds the time of the session.
                if not value.tag.startswith("_hparams_"):
                    yield event.step, value.tag, value.SerializeToString(deterministic=True)
