"""What the user gave, on the command line and in the files that it names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from harness.cli.keys import CHOSEN, choices, class_named, find_key, nearest, split_key, taken
from harness.cli.reading import SUFFIXES, flatten, load, load_file
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
        elif value.endswith(SUFFIXES) and find_key(key, value)[1]:
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


def check_given(given: Sequence[tuple[str, Any]]) -> None:
    """Refuses what is wrong by its name or form, before anything heavy is imported.

    Args:
        given: Dotted keys and values, in the order in which they count.

    Raises:
        ConfigError: For an unknown key or class, what is no mapping where there are keys below,
            and null where it is none of the accepted values: jsonargparse takes it for any.
    """
    for key, value in given:
        hint, below = find_key(key, value)
        if value is None or (value == "null" and not hint.startswith("str")):
            if not re.search("None|Optional|^Any$", hint):
                raise ConfigError(key, value, f"must be {hint}, not null")
        elif below and not (isinstance(value, str) and value.startswith("{")):
            _check_mapping(key, value, below)
        parts = split_key(key)
        if parts[:2] == ["model", "variants"] and len(parts) > 3 and parts[3] in CHOSEN:
            chosen = dict(given).get(".".join(parts[:4]))
            _check_choice(key, value, parts[3:], chosen)


def _check_mapping(key: str, value: object, below: Iterable[str]) -> None:
    if isinstance(value, str) and value.endswith(SUFFIXES):
        return
    if key in _MAIN and value:
        reason = f"has keys below it; did you mean --{key}.{_MAIN[key]} {value}?"
        raise ConfigError(key, value, reason)
    names = shorten(", ".join(below), 60, placeholder="...")
    reason = f"must be a mapping of {names}: '{{key: value}}', or a file that holds one"
    raise ConfigError(key, value, reason)


def _check_choice(key: str, value: object, parts: Sequence[str], chosen: object) -> None:
    """Checks the name of a class, or of an argument of one; those of a user's own pass."""
    kind, *arguments = parts
    names = choices(kind)
    if arguments:
        own = "." in str(chosen) and not str(chosen).startswith("harness.")
        if not own and arguments[0] not in ("help", *itertools.chain(*names.values())):
            raise ConfigError(key, value, f"no such key; {taken(kind)}")
        return
    word = str(value)
    if "." in word or word.startswith("{") or class_named(kind, word) in (*names, "null", "None"):
        return
    near = nearest(word, dict(zip(names, names, strict=True))) if word else ""
    for other in CHOSEN:
        if (meant := class_named(other, word)) in choices(other):
            near = f"; {meant} is for {other}"
    reason = f"no such class; accepted: {', '.join(names)}, or the import path of a class{near}"
    raise ConfigError(key, value, reason)
