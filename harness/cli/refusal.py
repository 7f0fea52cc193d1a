"""Turns what jsonargparse says of a wrong argument into one line that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from yaml import YAMLError

from harness.cli.keys import CHOSEN, arguments_taken
from harness.cli.reading import load

_KEY = re.compile(r'Parser key "([^"]+)"')
_GOT = re.compile(r"Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)")
_RESTRICTED = re.compile(
    r"Not of type (?P<type>\w+): (?P<value>.*) does not conform to restriction (?P<rule>.*)"
)
_NO_CLASS = re.compile(
    r"(?:Expected a dot import path string: |given class_path '(?=[^']+':\s+(?:No )?module ))"
    r"(?P<value>[^\s']+)"
)
_NOT_A_NUMBER = re.compile(r"Not of type (?P<type>\w+): .* '(?P<value>[^']*)'")
_TRIED = re.compile(
    r"^\s*- (?:Expected an? |Import path does not correspond to a subclass of )"
    r"(?P<type>.+?)(?=:| but |$)",
    re.MULTILINE,
)
_NO_KEY = re.compile(
    r"(?:^unrecognized arguments: --|does not accept option '|(?:Option|Key) '(?=\S+ is not acc))"
    r"(?P<key>[^'\s=]+)"
)
_STRAY = re.compile(r"^unrecognized arguments: (?P<value>.+)")
_NO_VALUE = re.compile(r"^argument (?:-\w/)?--(?P<key>[^\s/:]+)\S*: expected")
_GIVEN = re.compile(r"Given value: (?P<value>.*)")
_LIST = 'a list, in quotes: \'["first", "second"]\''
_KINDS = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "str": "text, in quotes",
    "NoneType": "null",
    "list": _LIST,
    "Iterable": _LIST,
    "tuple": _LIST,
    "dict": "a mapping, in quotes: '{key: value}'",
    "path": "the import path of a class",
    "dot import path string": "the import path of a class",
    "NonNegativeInt": "a whole number from 0 on",
    "PositiveInt": "a whole number from 1 on",
    "NonNegativeFloat": "a number from 0 on",
    "PositiveFloat": "a number above 0",
    "ClosedUnitInterval": "a number from 0 to 1",
    "OpenUnitInterval": "a number above 0 and below 1",
}


def one_line(message: str, given: Mapping[str, Any]) -> str:
    """Says in one line which key is wrong, what was given and what would be accepted.

    Args:
        message: What jsonargparse reports, of any length.
        given: What the user gave, by dotted key, from command line and files.

    Returns:
        ``key='value': reason``, or the message with its lines joined where it has no known form.
    """
    found_keys = dict.fromkeys(_KEY.findall(message))  # some are said twice
    path = [key for key in found_keys if not key.startswith("class_path")]
    # Of types within types the innermost is what the value should have been.
    core = message[max(0, message.rfind("Subtypes:")) :]
    for pattern, explain in _REASONS:
        found = pattern.search(core)
        if found is None:
            continue
        groups = found.groupdict()
        value = groups.get("value")
        key = _located([*path, groups["key"]] if "key" in groups else path, value, given)
        reason = explain(core, groups | {"at": key})
        if value is None:
            return f"{key}: {reason}"
        # Of what should be text quotes would say that it is.
        shown = value if groups.get("type") == "<class 'str'>" else _quoted(value)
        return f"{key}={shown}: {reason}"
    return " ".join(message.split())


def _quoted(value: str) -> str:
    return value if value.startswith(("'", '"', "[", "{")) else repr(value)


def _alternatives(core: str, groups: Mapping[str, str]) -> str:
    """What a value may be, where there are several types that it may have."""
    kinds = [found["type"] for found in _TRIED.finditer(core)]
    words = dict.fromkeys(map(_kind, kinds))
    if _KINDS["float"] in words:
        words.pop(_KINDS["int"], None)
    return f"must be {', or '.join(words)}" if words else "not what is expected here; see --help"


def _no_key(core: str, groups: Mapping[str, str]) -> str:
    kind = groups["at"].split(".")[-2:][0]
    return f"no such key; {arguments_taken(kind) if kind in CHOSEN else '--help lists the keys'}"


_REASONS: tuple[tuple[re.Pattern[str], Callable[[str, Mapping[str, str]], str]], ...] = (
    (_NO_CLASS, lambda *_: "no such class; give its import path, such as package.module.Name"),
    (_RESTRICTED, lambda _, groups: f"must be {_KINDS.get(groups['type']) or _rule(groups)}"),
    (_NOT_A_NUMBER, lambda _, groups: f"must be {_kind(groups['type'])}"),
    (_GOT, lambda _, groups: f"must be {_kind(groups['type'])}"),
    (_NO_KEY, _no_key),
    (_STRAY, lambda *_: "belongs to no option; options begin with --"),
    (_NO_VALUE, lambda *_: "give a value"),
    (_GIVEN, _alternatives),
)


def _kind(text: str) -> str:
    """What a value of a type is, in words."""
    choices = re.search(r"Literal\[(.+)\]", text)
    if choices:
        return "one of " + _unquoted(choices.group(1))
    length = re.fullmatch(r"tuple with (\d+) elements", text)
    if length:
        return f"a list of {length.group(1)}, in quotes: '[first, ...]'"
    name = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>", r"\1", text)
    return _KINDS.get(name, f"of type {name}")


def _unquoted(names: str) -> str:
    return names.replace("'", "")


def _rule(groups: Mapping[str, str]) -> str:
    """A restriction such as `v>0 and v<1`, in words."""
    text = groups["rule"]
    signs = {"v>=": "at least ", "v<=": "at most ", "v>": "above ", "v<": "below "}
    for sign, words in signs.items():
        text = text.replace(sign, words)
    return text


def _located(keys: list[str], value: str | None, given: Mapping[str, Any]) -> str:
    """The key as the user typed it: jsonargparse leaves out what leads to it, and variants."""
    parts = [part for key in keys for part in key.split(".")]
    paths = [path for path, known in given.items() if value is None or _holds(known, value)]
    # A value within a mapping is reported under the key of the mapping.
    for runs in (lambda path: path[-1:] == parts[-1:], lambda path: True):
        for path in paths:
            steps = path.split(".")
            if parts and runs(steps) and _runs_through(steps, parts):
                return path
    return ".".join(parts) or "argument"


def _holds(known: Any, value: str) -> bool:
    items = _read(known)
    # YAML reads true as True.
    within = isinstance(items, list) and any(_holds(item, value) for item in items)
    return within or str(known).lower() == value.lower().strip("'\"")


def _runs_through(path: list[str], parts: list[str]) -> bool:
    rest = iter(path)
    return all(part in rest for part in parts)


def _read(value: Any) -> Any:
    """What a list or a mapping on the command line holds; anything else as it is."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        with suppress(YAMLError):
            return load(value)
    return value
