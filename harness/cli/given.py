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
from harness.cli.reading import SUFFIXES, load, load_file
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
    for _, key, value in _pairs(argv):
        if key in ("-c", "--config"):
            if value.startswith("{"):
                yield from values_in("", value)
            elif value:
                yield from values_in("", load_file(Path(value), "config"), Path(value).parent)
        elif key.startswith("--"):
            path = key[2:].replace(".init_args", "").removesuffix(".class_path")
            yield from values_in(path, value)


def values_in(key: str, value: Any, folder: Path = Path()) -> Given:
    """Yields a value, and what is in it: in a mapping, or in the file that it names.

    Args:
        key: Its dotted key, without class_path and init_args; empty for a whole configuration.
        value: As text where it stands on the command line, else as YAML reads it.
        folder: Where the files lie that are named in it.
    """
    inner = value
    if isinstance(value, str):
        if value.startswith("{"):
            with suppress(yaml.YAMLError):
                inner = load(value)
        elif value.endswith(SUFFIXES) and find_key(key, value)[1]:
            inner = load_file(folder / value, key)
    if key and not isinstance(value, Mapping):
        yield key, value
    for name, part in inner.items() if isinstance(inner, Mapping) else ():
        hidden = name in ("class_path", "init_args")
        yield from values_in(key if hidden else f"{key}.{name}".lstrip("."), part, folder)


def spelt(argv: Sequence[str]) -> list[str]:
    """The command line with the names of a variant's classes as they are written."""
    found = list(argv)
    for place, key, value in _pairs(argv):
        kind = key.removesuffix(".class_path").rpartition(".")[2]
        if kind in CHOSEN and key.startswith("--model.variants."):
            found[place] = found[place].removesuffix(value) + class_named(kind, value)
    return found


def _pairs(argv: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Where a value stands in a command line, its key, and the value."""
    for place, item in enumerate(argv):
        key, equals, value = item.partition("=")
        is_next = not equals and place + 1 < len(argv)
        yield (place + 1, key, argv[place + 1]) if is_next else (place, key, value)


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
    near = nearest(word, {name: name for name in names}) if word else ""
    reason = f"no such class; accepted: {', '.join(names)}, or the import path of a class{near}"
    raise ConfigError(key, value, reason)
