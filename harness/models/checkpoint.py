"""What lies at the place of a model: weights in safetensors, a GGUF file, or an adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import ConfigError
from harness.models.repository import first_line, locate

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
CONFIG = "config.json"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")


class Checkpoint:
    """A model as it lies in a folder or on the hub, and what of it can be read.

    Args:
        key: Configuration key that names it, for errors.
        name: Hub id, local folder, GGUF file, or `demo`.
        revision: Branch, tag or commit on the hub.
        adapter: The adapter that it is the model of, which then is what was named.

    Attributes:
        source: A folder here, or the id of a repository on the hub.
        local: Whether it lies in a folder here.

    Raises:
        ConfigError: There is no such folder or file, and it is no id.
    """

    def __init__(
        self, key: str, name: str, revision: str | None = None, adapter: str | None = None
    ) -> None:
        self.name = name
        self._key = key
        self._revision = revision
        self._adapter = adapter
        try:
            self.source, self._file = locate(name)
        except ValueError as error:
            raise self.refused(str(error)) from None
        self.local = os.path.isdir(self.source)

    def refused(self, reason: str) -> ConfigError:
        """What says, under the key that names it, why it cannot be had or measured."""
        if self._adapter is None:
            return ConfigError(self._key, self.name, reason)
        return ConfigError(self._key, self._adapter, f"its model, {self.name}: {reason}")

    @property
    def place(self) -> dict[str, Any]:
        """Where it is, as arguments of `from_pretrained`."""
        file = {} if self.gguf is None else {"gguf_file": self.gguf}
        return {"pretrained_model_name_or_path": self.source, "revision": self._revision, **file}

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Names of the files beside one another; none where the hub cannot be asked.

        Raises:
            ConfigError: The folder cannot be read.
        """
        if self.local:
            try:
                return tuple(sorted(os.listdir(self.source)))
            except OSError as error:
                raise self.refused(first_line(error)) from error
        return tuple(sorted(n for n in _on_hub(self.source, self._revision) if "/" not in n))

    @cached_property
    def gguf(self) -> str | None:
        """The GGUF file that holds the model; None where it is held otherwise.

        Raises:
            ConfigError: There are several, and none was named; or no package to read one.
        """
        found = [self._file] if self._file is not None else []
        if not found and not self._has_weights:
            found = [name for name in self.files if name.lower().endswith(".gguf")]
        if len(found) > 1:
            raise self.refused(f"holds several GGUF files; name one of {', '.join(found)}")
        if found and find_spec("gguf") is None:
            how = "pip install 'outlier-harness[gguf]'"
            raise self.refused(f"reading GGUF files needs a package more: {how}")
        return found[0] if found else None

    @cached_property
    def adapter(self) -> Mapping[str, Any] | None:
        """The settings of an adapter that needs another model's weights; None where it is none.

        Raises:
            ConfigError: They cannot be read.
        """
        if ADAPTER not in self.files or self._has_weights or self.gguf is not None:
            return None
        return self.mapping(ADAPTER)

    @property
    def has_idle_adapter(self) -> bool:
        """Whether an adapter lies beside weights that are whole without it."""
        return self._has_weights and ADAPTER in self.files

    def path(self, file: str) -> str:
        """Where a file of it lies here, once it was fetched from the hub if need be."""
        from transformers.utils import cached_file

        if self.local:
            return os.path.join(self.source, file)
        return str(cached_file(self.source, file, revision=self._revision))

    def mapping(self, file: str) -> dict[str, Any]:
        """What a JSON file of it holds.

        Raises:
            ConfigError: It cannot be read, or holds something else.
        """
        try:
            content = json.loads(Path(self.path(file)).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self.refused(f"{file} cannot be read: {first_line(error)}") from error
        if not isinstance(content, dict):
            raise self.refused(f"{file} holds no mapping")
        return content

    def check(self) -> None:
        """Refuses what is no safetensors or GGUF, before any weight is read.

        Raises:
            ConfigError: It holds pickles, no weights, or a list of them that points elsewhere.
        """
        if self.gguf is not None:
            return
        # Of a repository that cannot be asked loading will say what is missing.
        if self.adapter is not None:
            if ADAPTER_WEIGHTS not in self.files:
                raise self._no_weights(ADAPTER_WEIGHTS)
        elif (self.local or self.files) and not self._has_weights:
            raise self._no_weights(WEIGHTS)
        elif INDEX in self.files and WEIGHTS not in self.files:
            self._check_index()

    @property
    def _has_weights(self) -> bool:
        weights = (name for name in self.files if name.endswith(".safetensors"))
        return INDEX in self.files or any(name != ADAPTER_WEIGHTS for name in weights)

    def _check_index(self) -> None:
        weights = self.mapping(INDEX).get("weight_map")
        if not isinstance(weights, dict) or not weights:
            raise self.refused(f"{INDEX} names no weights")
        for file in weights.values():
            if not isinstance(file, str) or not file.endswith(".safetensors"):
                raise self.refused(
                    f"{INDEX} points at {file!r}; weights are read from safetensors alone, as a "
                    "pickle can run code when it is opened"
                )
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or "\\" in file:
                raise self.refused(f"{INDEX} points at {file!r}, outside of the model")
        for file in dict.fromkeys(weights.values()):
            if self.local and not os.path.isfile(os.path.join(self.source, file)):
                raise self.refused(f"{INDEX} points at {file!r}, which is not there")

    def _no_weights(self, due: str) -> ConfigError:
        pickles = [name for name in self.files if name.endswith(_PICKLES)]
        if not pickles:
            return self.refused(f"holds no weights ({due})")
        return self.refused(
            f"holds pickled weights only ({pickles[0]}); a pickle can run code when it is opened, "
            "so convert it to safetensors with model.save_pretrained(folder) first"
        )


def _on_hub(repository: str, revision: str | None) -> Iterable[str]:
    """Files of a repository: as the hub says, or as they lie in the cache."""
    from huggingface_hub import list_repo_files, snapshot_download

    with suppress(Exception):  # of any kind, as it is asked over a network
        return list_repo_files(repository, revision=revision)
    with suppress(Exception):
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    return ()
