"""Patches as files: safetensors with a manifest of what made them and for which weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from harness import __version__
from harness.base.files import replacing
from harness.errors import ConfigError
from harness.outliers.entries import bits, read
from harness.outliers.tensor_patch import TensorPatch
from harness.outliers.transfer import on_host

FORMAT = 1
_PARTS = ("index", "old", "new")
_MOST_ENTRIES = 2**63 - 1  # that positions of 64 bits can tell apart


def save(tensors: Sequence[TensorPatch], path: Path, manifest: Mapping[str, object]) -> None:
    """Saves a patch; equal patches with equal manifests give equal bytes.

    For every parameter the file holds `<name>.index` (row-major positions), `<name>.old` and
    `<name>.new`; its metadata holds the manifest as JSON, under the one key `manifest`.

    Args:
        tensors: What to save.
        path: The file, in a folder that exists; overwritten.
        manifest: What made the patch and for which weights (criterion, edit, scope, the model's
            name, revision, class and data type), in values that JSON knows. The format's and the
            harness's version, and shape and data type of each tensor, are added.
    """
    record = {
        **manifest,
        "format": FORMAT,
        "harness": __version__,
        "tensors": [_described(tensor) for tensor in tensors],
    }
    # Copies, because the format refuses tensors that share memory.
    parts = {
        f"{tensor.name}.{part}": getattr(tensor, part).cpu().contiguous().clone()
        for tensor in tensors
        for part in _PARTS
    }
    # One key only: the library writes several in an order that changes from call to call.
    text = json.dumps(record, sort_keys=True)
    with replacing(path) as beside:
        beside.write_bytes(serialize(parts, metadata={"manifest": text}))


def load(path: Path, key: str = "patch") -> tuple[tuple[TensorPatch, ...], dict[str, Any]]:
    """Reads a saved patch.

    Args:
        path: The file.
        key: The configuration key that names it, for errors.

    Returns:
        The patch and its manifest.

    Raises:
        ConfigError: If the file is missing, is no patch, is damaged or of another format.
    """
    # Unlike that of Path, this takes what no file can be called.
    if not os.path.isfile(path):
        raise ConfigError(key, str(path), "no such file")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("manifest")
            # Copies, because the library's tensors may change with the file.
            parts = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a file may hold anything, and of data types that torch lacks
        reason = f"cannot be read as a safetensors file ({error})"
        raise ConfigError(key, str(path), " ".join(reason.split())) from None
    if text is None:
        raise ConfigError(key, str(path), "has no manifest, so it is not a saved patch")
    try:
        return _assembled(text, parts)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise ConfigError(key, str(path), f"is not a valid patch ({what})") from None


def misfit(tensors: Sequence[TensorPatch], model: nn.Module) -> str | None:
    """Why a patch cannot have been made for the weights of a model; None where it fits.

    It fits where every parameter is there, has the shape and data type, and holds, bit for bit,
    the values that the patch replaces.

    Args:
        tensors: The patch.
        model: The model with its own weights.
    """
    current = []
    for tensor in tensors:
        try:
            current.append(read(tensor.parameter_of(model), tensor.index))
        except ConfigError as error:
            return f"{tensor.name}: {error.reason}: a patch of another model"
    for tensor, values in zip(tensors, on_host(current), strict=True):
        different = int((bits(values) != bits(tensor.old.cpu())).sum())
        if different:
            return (
                f"{tensor.name}: {different} of {tensor.entries} values are not those that the "
                "patch replaces: a patch of another model, or of another revision of it"
            )
    return None


def _assembled(
    text: str, parts: Mapping[str, Tensor]
) -> tuple[tuple[TensorPatch, ...], dict[str, Any]]:
    manifest = json.loads(text)
    if not isinstance(manifest, dict):
        raise TypeError("its manifest is no mapping")
    if manifest.get("format") != FORMAT:
        raise ValueError(f"format {manifest.get('format')!r}, this harness reads {FORMAT}")
    described = _list_of(dict, manifest, "tensors")
    expected = [f"{about['name']}.{part}" for about in described for part in _PARTS]
    if sorted(expected) != sorted(parts):
        raise ValueError("its tensors are not those of its manifest, each once")
    return tuple(_tensor(about, parts) for about in described), manifest


def _tensor(about: Mapping[str, Any], parts: Mapping[str, Tensor]) -> TensorPatch:
    """A part of a patch as its manifest describes it."""
    name, dtype, shape = str(about["name"]), about["dtype"], _list_of(int, about, "shape")
    # Of an empty tensor the other sizes are bounded as well.
    if any(size < 0 for size in shape) or prod(max(1, size) for size in shape) > _MOST_ENTRIES:
        raise ValueError(f"{name}: no tensor has the shape {shape}")
    tensor = TensorPatch(name, tuple(shape), *(parts[f"{name}.{part}"] for part in _PARTS))
    if dtype != (found := _described(tensor)["dtype"]):
        raise ValueError(f"{name} is {found}, its manifest says {dtype}")
    return tensor


def _described(tensor: TensorPatch) -> dict[str, object]:
    """What a manifest says of a part of a patch."""
    dtype = str(tensor.new.dtype).removeprefix("torch.")
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": dtype}


def _list_of(kind: type, about: Mapping[str, Any], key: str) -> list[Any]:
    items = about[key]
    if not isinstance(items, list) or any(type(item) is not kind for item in items):
        raise TypeError(f"its {key} must be a list, and nothing in it but {kind.__name__}")
    return items
