"""What the user gave, on the command line and in the files that it names."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from harness.cli.default_variants import VARIANTS
from harness.cli.keys import (
    CHOSEN,
    Key,
    alternatives,
    class_arguments,
    class_named,
    class_names,
    find_key,
    nearest,
    split_key,
)
from harness.cli.reading import SUFFIXES, flatten, load, load_file
from harness.cli.values import check_value
from harness.errors import ConfigError

# What a lone value of a group is most likely meant for.
_MAIN = {"run": "name", "model": "pretrained", "data": "dataset", "activations": "enabled"}

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
            if value.startswith("{"):
                yield from _within("", value, Path())
            elif value:
                yield from _within("", load_file(Path(value), "config"), Path(value).parent)
        elif key.startswith("--"):
            path = key[2:].replace(".init_args", "").removesuffix(".class_path")
            yield from _within(path, value, Path())


def _within(key: str, value: Any, folder: Path) -> Given:
    """A value, and what is in it: in a mapping, or in the file that it names."""
    inner = value
    if isinstance(value, str):
        if key:
            yield key, value
        if value.startswith("{"):
            with suppress(yaml.YAMLError):
                inner = load(value)
        elif value.endswith(SUFFIXES) and find_key(key, value).below:
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
        if kind not in CHOSEN or not key.startswith("--model.variants."):
            continue
        if equals:
            found[position] = f"{key}={class_named(kind, value)}"
        elif position + 1 < len(argv):
            found[position + 1] = class_named(kind, argv[position + 1])
    return found


def check_given(given: Iterable[tuple[str, Any]]) -> None:
    """Refuses what is wrong by itself, before anything heavy is imported.

    Args:
        given: Dotted keys and values, in the order in which they count.

    Raises:
        ConfigError: For an unknown key or class, or for a value that is not of its key's type.
    """
    chosen = dict(flatten(VARIANTS, "model.variants"))
    for key, value in given:
        found = find_key(key, value)
        parts = split_key(key)
        kind = parts[3] if parts[:2] == ["model", "variants"] and len(parts) > 3 else None
        if key.endswith((".help", "+")):
            continue
        if kind not in CHOSEN:
            _check(key, value, found)
        elif len(parts) == 4:
            _check_class(key, value, kind)
            if not str(value).startswith("{"):  # what is in a mapping follows it
                chosen[key] = value
        else:
            _check_argument(key, value, kind, chosen)


def _check(key: str, value: Any, found: Key) -> None:
    if not found.below:
        check_value(key, value, found.hint)
        return
    is_mapping = isinstance(value, str) and value.startswith("{")
    is_file = isinstance(value, str) and value.endswith(SUFFIXES)
    may_be_null = "None" in map(ast.unparse, alternatives(found.hint))
    if is_mapping or is_file or (value in (None, "null") and may_be_null):
        return
    if key in _MAIN and value not in (None, "", "null"):
        reason = f"has keys below it; did you mean --{key}.{_MAIN[key]} {value}?"
        raise ConfigError(key, value, reason)
    names = ", ".join(found.below)
    of = "" if "*" in names else f" of {shorten(names, 60, placeholder='...')}"
    reason = f"must be a mapping{of}: '{{key: value}}', or a file that holds one"
    raise ConfigError(key, value, reason)


def _check_class(key: str, value: Any, kind: str) -> None:
    # A class of one's own is named by its import path.
    if value is None or (isinstance(value, str) and ("." in value or value.startswith("{"))):
        return
    names = class_names(kind)
    if class_named(kind, str(value)) in (*names, "null"):
        return
    near = nearest(str(value), {name: name for name in names}) if value else ""
    for other in CHOSEN:
        if (meant := class_named(other, str(value))) in class_names(other):
            near = f"; {meant} is for {other}"
    reason = f"no such class; accepted: {', '.join(names)}, or the import path of a class{near}"
    raise ConfigError(key, value, reason)


def _check_argument(key: str, value: Any, kind: str, chosen: Mapping[str, Any]) -> None:
    """Checks an argument of a criterion or an edit by the class that is chosen before it."""
    above, _, argument = key.rpartition(".")
    takes = {name: class_arguments(kind, name) for name in class_names(kind)}
    path = str(chosen.get(above) or "null")
    if path == "null":
        reason = f"is an argument of no class yet; choose one by {above} before it"
        raise ConfigError(key, value, reason)
    name = class_named(kind, path.removeprefix("harness.outliers."))
    if name not in takes:
        return
    if argument not in takes[name]:
        told = [f"{name} takes {' and '.join(names)}" for name, names in takes.items() if names]
        raise ConfigError(key, value, f"no such key; {', '.join(told)}")
    check_value(key, value, takes[name][argument])
