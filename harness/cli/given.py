"""What the user gave, on the command line and in the files that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from harness.cli.keys import (
    CHOSEN,
    GROUPS,
    check_key,
    class_named,
    class_names,
    keys_below,
    nearest,
)
from harness.cli.reading import flatten, load, load_file
from harness.errors import ConfigError

# What a lone value of a group is most likely meant for.
_MAIN = {"run": "name", "model": "pretrained", "data": "dataset", "activations": "enabled"}
_VARIANTS = "--model.variants."
_SUFFIXES = (".yaml", ".yml", ".json")

Given = Iterator[tuple[str, Any]]


def values_given(argv: Sequence[str]) -> Given:
    """Yields dotted keys and values of a command line and of the files that it names.

    Of mappings both the whole and, one by one, what they hold.

    Raises:
        ConfigError: For a file that is no configuration.
    """
    for position, item in enumerate(argv):
        key, equals, value = item.partition("=")
        if not equals and position + 1 < len(argv):
            value = argv[position + 1]
        if key in ("-c", "--config"):
            if value and not value.startswith("{"):
                yield from _within("", load_file(Path(value), "config"), Path(value).parent)
        elif key.startswith("--"):
            path = key[2:].replace(".init_args", "").removesuffix(".class_path")
            yield from _within(path, value, Path())


def _within(key: str, value: Any, folder: Path) -> Given:
    """A value, and what is in it: in a mapping, or in the file that it names."""
    inner = value
    if isinstance(value, str):
        yield key, value
        if value.startswith("{"):
            with suppress(yaml.YAMLError):
                inner = load(value)
        elif value.endswith(_SUFFIXES) and keys_below(key):
            inner = load_file(folder / value, key)
    if isinstance(inner, Mapping):
        for path, part in flatten(inner, key):
            yield from _within(path, part, folder)
    elif not isinstance(value, str):
        yield key, value


def spelt(argv: Sequence[str]) -> list[str]:
    """The command line with the names of a variant's classes as they are written."""
    found = list(argv)
    for position, item in enumerate(argv):
        key, equals, value = item.partition("=")
        kind = key.removesuffix(".class_path").rpartition(".")[2]
        if kind not in CHOSEN or not key.startswith(_VARIANTS):
            continue
        if equals:
            found[position] = f"{key}={class_named(kind, value)}"
        elif position + 1 < len(argv):
            found[position + 1] = class_named(kind, argv[position + 1])
    return found


def check_given(argv: Sequence[str]) -> None:
    """Refuses what is wrong by its name or its form alone, before anything heavy is imported.

    Args:
        argv: The command line from the command on.

    Raises:
        ConfigError: For a file that is no configuration, an unknown key, an unknown class, or a
            value where keys belong.
    """
    for key, value in values_given(argv):
        check_key(key, value)
        if not key.endswith(".help"):
            _check_form(key, value)
            _check_class(key, value)


def _check_form(key: str, value: Any) -> None:
    names = keys_below(key)
    is_mapping = isinstance(value, str) and value.startswith("{")
    is_file = isinstance(value, str) and value.endswith(_SUFFIXES)
    is_nothing = value in (None, "null") and key not in (*GROUPS, "activations.sites")
    if not names or is_mapping or is_file or is_nothing:
        return
    if key in _MAIN and value not in (None, "", "null"):
        reason = f"has keys below it; did you mean --{key}.{_MAIN[key]} {value}?"
        raise ConfigError(key, value, reason)
    of = "" if "*" in names else f" of {shorten(', '.join(names), 60, placeholder='...')}"
    reason = f"must be a mapping{of}: '{{key: value}}', or a file that holds one"
    raise ConfigError(key, value, reason)


def _check_class(key: str, value: Any) -> None:
    kind = key.rpartition(".")[2]
    if kind not in CHOSEN or not f"--{key}".startswith(_VARIANTS):
        return
    names = class_names(kind)
    # A class of one's own is named by its import path.
    if not isinstance(value, str) or not value.isidentifier():
        return
    if class_named(kind, value) in (*names, "null"):
        return
    near = nearest(value, {name: name for name in names})
    for other in CHOSEN:
        if (meant := class_named(other, value)) in class_names(other):
            near = f"; {meant} is for {other}"
    reason = f"no such class; accepted: {', '.join(names)}, or the import path of a class{near}"
    raise ConfigError(key, value, reason)
