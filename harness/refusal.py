"""Turns what jsonargparse says of a wrong argument into one line that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError

_KEY = re.compile(r'Parser key "([^"]+)"')
_GOT = re.compile(r"Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)")
_RESTRICTED = re.compile(
    r"Not of type (?P<type>\w+): (?P<value>.*) does not conform to restriction (?P<rule>.*)"
)
_NO_CLASS = re.compile(r"Expected a dot import path string: (?P<value>\S+)")
_BASE = re.compile(r"Subtypes: \[<class '(?P<path>[\w.]+)'>")
_NOT_A_NUMBER = re.compile(r"Not of type (?P<type>\w+): .* '(?P<value>[^']*)'")
_OPTION = re.compile(r"(?:Option|Key) '(?P<key>[^']+)' is not accepted")
_UNKNOWN = re.compile(r"^unrecognized arguments: --(?P<key>[^\s=]+)")
_GIVEN = re.compile(r"Given value: (?P<value>.*)\s*$")
_NO_FILE = re.compile(r"File does not exist: '?(?P<value>[^']+)'?")


def one_line(message: str, given: Mapping[str, Any]) -> str:
    """Says in one line which key is wrong, what was given and what would be accepted.

    Args:
        message: What jsonargparse reports, of any length.
        given: What the user gave, by dotted key, from command line and files.

    Returns:
        ``key='value': reason``, or the message with its lines joined where it has no known form.
    """
    keys = [key for key in _KEY.findall(message) if not key.startswith("class_path")]
    for pattern, reason in _REASONS:
        found = pattern.search(message)
        if found is None:
            continue
        groups = found.groupdict()
        if "key" in groups:
            return f"{_located([*keys, groups['key']], None, given)}: {reason(message, groups)}"
        key = _located(keys, groups["value"], given)
        return f"{key}={_quoted(groups['value'])}: {reason(message, groups)}"
    return " ".join(message.split())


def _quoted(value: str) -> str:
    return value if value.startswith(("'", '"', "[", "{")) else repr(value)


def _unknown_class(message: str, groups: Mapping[str, str]) -> str:
    names = _subclasses(message)
    accepted = f"; accepted: {', '.join(names)}, or the import path of a class" if names else ""
    return f"no such class{accepted}"


def _subclasses(message: str) -> list[str]:
    from harness.outliers import Criterion, Edit

    base = _BASE.search(message)
    bases = {f"{cls.__module__}.{cls.__name__}": cls for cls in (Criterion, Edit)}
    known = bases.get(base.group("path")) if base else None
    return sorted(cls.__name__ for cls in known.__subclasses__()) if known else []


_NO_KEY = "no such key; --help lists the keys"
_REASONS: tuple[tuple[re.Pattern[str], Callable[[str, Mapping[str, str]], str]], ...] = (
    (_NO_CLASS, _unknown_class),
    (_RESTRICTED, lambda _, groups: f"must be {_rule(groups['rule'])}"),
    (_NOT_A_NUMBER, lambda _, groups: f"must be {_kind(groups['type'])}"),
    (_GOT, lambda _, groups: f"must be {_kind(groups['type'])}"),
    (_OPTION, lambda *_: _NO_KEY),
    (_UNKNOWN, lambda *_: _NO_KEY),
    (_NO_FILE, lambda *_: "no such file"),
    (_GIVEN, lambda *_: "not what is expected here; --help says what is"),
)

_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "list": 'a list, in quotes: \'["first", "second"]\'',
    "dict": "a mapping, in quotes: '{key: value}'",
    "NonNegativeInt": "a whole number from 0 on",
    "PositiveInt": "a whole number from 1 on",
}


def _kind(text: str) -> str:
    """What a value of a type is, in words."""
    choices = re.search(r"Literal\[(.+)\]", text)
    if choices:
        return "one of " + choices.group(1).replace("'", "")
    name = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", text)
    return _KINDS.get(name, f"of type {name}")


def _rule(text: str) -> str:
    """A restriction such as `v>0 and v<1`, in words."""
    signs = {"v>=": "at least ", "v<=": "at most ", "v>": "above ", "v<": "below "}
    for sign, words in signs.items():
        text = text.replace(sign, words)
    return text


def _located(keys: list[str], value: str | None, given: Mapping[str, Any]) -> str:
    """The key as the user typed it: jsonargparse leaves out the names of variants."""
    parts = [part for key in keys for part in key.split(".")]
    for path, known in given.items():
        same = value is None or str(known) == value.strip("'\"")
        if same and _runs_through(path.split("."), parts):
            return path
    return ".".join(parts)


def _runs_through(path: list[str], parts: list[str]) -> bool:
    rest = iter(path)
    return bool(parts) and path[-1] == parts[-1] and all(part in rest for part in parts)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and their values, leaving out class_path and init_args levels."""
    for key, value in tree.items():
        hidden = key in ("class_path", "init_args")
        path = prefix if hidden else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flatten(value, path)
        else:
            yield path, value


def check_file(path: Path) -> None:
    """Refuses a configuration file that is no mapping, or that says a key twice.

    YAML would keep the last of two keys without a word, and with it one of two variants.

    Raises:
        ConfigError: Naming the file and what is wrong with it.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(path), " ".join(str(error).split())) from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError("config", str(path), "must hold a mapping, such as `model: ...`")
    for key in _said_twice(root):
        raise ConfigError("config", str(path), f"says {key} twice")


def _said_twice(node: yaml.Node, prefix: str = "") -> Iterator[str]:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        if path in seen:
            yield path
        seen.add(path)
        yield from _said_twice(value, f"{path}.")


def arguments_given(argv: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values of options on a command line."""
    items = list(argv)
    for position, item in enumerate(items):
        if not item.startswith("--"):
            continue
        key, equals, value = item[2:].partition("=")
        if not equals and position + 1 < len(items):
            value = items[position + 1]
        yield key.replace(".init_args", ""), value
