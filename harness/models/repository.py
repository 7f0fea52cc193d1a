"""Where a model lies, here or in a repository on the hub, and why it cannot be had."""

from __future__ import annotations

import os
import re
from textwrap import shorten

from harness.demo import MODEL_FOLDER

_ACCEPTED = "a hub id, a folder with a config.json, a .gguf file, or demo"
_ON_HUB = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*", re.ASCII)
_FILE_ON_HUB = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)/(?P<file>.+\.gguf)", re.I | re.A)
_LONGEST_REASON = 300


def locate(name: str) -> tuple[str, str | None]:
    """Where a model lies; what exists here is meant, whatever its name looks like.

    Args:
        name: Hub id, local folder, GGUF file here or in a repository (`owner/name/file.gguf`), or
            `demo`.

    Returns:
        A folder here or the id of a repository on the hub, and the GGUF file in it that was named,
        None where the whole was.

    Raises:
        ValueError: It can only lie here, and does not; or it is another kind of file.
    """
    if name == "demo":
        return str(MODEL_FOLDER), None
    # Unlike those of Path, these functions take names that no file can have.
    for path in (name, os.path.expanduser(name)):
        if path and os.path.isdir(path):
            return path, None
        if os.path.isfile(path):
            if not _is_gguf(path):
                raise ValueError(f"a file that is no model; give {_ACCEPTED}")
            folder, file = os.path.split(path)
            return folder or ".", file
    if found := _FILE_ON_HUB.fullmatch(name):
        return found["repository"], found["file"]
    if _is_gguf(name) or not _ON_HUB.fullmatch(name):
        what = "file" if _is_gguf(name) else "folder"
        raise ValueError(f"no such {what}; give {_ACCEPTED}")
    return name, None


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def cause(error: BaseException, name: str) -> str:
    """Says of an error of transformers or of the hub, in one line, what it is and what to do.

    Args:
        error: What was raised; its chain of causes is looked through.
        name: The repository or folder.
    """
    kinds = {type(cause).__name__ for cause in _causes(error)}
    if "GatedRepoError" in kinds:
        return (
            f"the repository is gated: accept its terms at https://huggingface.co/{name} "
            "and run `hf auth login`"
        )
    if "RevisionNotFoundError" in kinds:
        return "the repository has no such revision (model.revision)"
    if "RepositoryNotFoundError" in kinds:
        return (
            "no such repository on the hub (a private one needs `hf auth login`), and no such "
            "folder here"
        )
    if "trust_remote_code" in str(error):
        return (
            "it brings code of its own, which would run on this machine; read it, then allow it by "
            "model.trust_remote_code=true"
        )
    if "SafetensorError" in kinds:
        return f"its weights are damaged or cut short (*.safetensors): {first_line(error)}"
    if kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError"}:
        return "not a folder here, not in the local cache, and the hub cannot be reached"
    return first_line(error) if isinstance(error, OSError | ValueError) else said(error)


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def said(error: BaseException) -> str:
    """Returns an error's name and the first line of its message, if it has one."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its name where it has none.

    One that ends in a colon goes on in the next; one of any length is cut.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = 1 + next((k for k, line in enumerate(lines) if not line.endswith(":")), len(lines) - 1)
    return shorten(" ".join(lines[:said]), _LONGEST_REASON, placeholder=" ...").rstrip(".")
