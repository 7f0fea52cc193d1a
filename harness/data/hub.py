"""Data sets of the Hugging Face hub, and clones of them, as ``datasets`` loads them."""

from __future__ import annotations

from os.path import isdir
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.arrow_tables import ArrowTable, dataset_table
from harness.data.files import at
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.data.sources import TextSource


def hub_table(source: TextSource, split: str) -> ArrowTable:
    """Opens one split of a data set; unless it is streamed, it is downloaded or found cached.

    Args:
        source: What names it: a hub id, or a folder that holds a clone.
        split: The split.

    Raises:
        ConfigError: It is unknown, gated or out of reach.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    path = str(at(str(source.dataset)))
    # A cached copy of a folder may be older than what lies in it.
    how: dict[str, Any] = {"download_mode": "force_redownload"} if isdir(path) else {}
    how |= {"streaming": True} if source.streaming else {}
    try:
        found = load_dataset(path, source.name, split=split, revision=source.revision, **how)
    except (OSError, ValueError, RuntimeError, StopIteration, DatasetsError) as error:
        raise _refusal(error, source, split) from error
    return dataset_table(Path(str(source.dataset)), found)


def _refusal(error: Exception, source: TextSource, split: str) -> ConfigError:
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    told = " ".join(str(error).split())
    why = " ".join(str(cause).split()) or told
    if isinstance(cause, StopIteration) or "corresponds to no data" in why:
        why = "no rows in it"
    reason = f"cannot be read: {why}"
    if "gated" in told:
        reason = "a gated data set: accept its terms on its page, then log in with `hf auth login`"
    elif isinstance(error, ConnectionError):
        reason = "the hub cannot be reached and there is no cached copy; go online or give a file"
    elif told.startswith("Revision"):
        return ConfigError("data.revision", source.revision, "no such branch, tag or commit")
    elif told.startswith("Bad split"):
        return ConfigError("data.splits", split, f"there are {told.partition('splits: ')[2]}")
    elif told.startswith("Unknown split"):
        return ConfigError("data.splits", split, f"there are {told.partition('one of ')[2]}")
    elif told.startswith(("BuilderConfig", "Config name")):
        return ConfigError("data.name", source.name, told)
    elif "doesn't exist on the Hub" in told:
        reason = "no such file here and no such data set on the hub; for a private one log in with"
        reason += " `hf auth login`"
    return ConfigError("data.dataset", source.dataset, reason)
