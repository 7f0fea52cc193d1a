"""Turns what jsonargparse says of a wrong argument into one line that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from harness.errors import ConfigError

_KEY = re.compile(r'Parser key "([^"]+)"')
_GOT = re.compile(r"Expected an? (?P<type>.+?)\. Got value: (?P<value>.*)")
_RESTRICTED = re.compile(
    r"Not of type (?P<type>\w+): (?P<value>.*) does not conform to restriction (?P<rule>.*)"
)
_NO_CLASS = re.compile(r"Expected a dot import path string: (?P<value>\S+)")
_BASE = re.compile(r"Subtypes: \[(?:<class '|dict\[str, )?(?P<path>[\w.]+)")
_NOT_A_NUMBER = re.compile(r"Not of type (?P<type>\w+): .* '(?P<value>[^']*)'")
_TRIED = re.compile(r"^\s*- Expected an? (?P<type>[^:\n]+)", re.MULTILINE)
_OPTION = re.compile(r"(?:Option|Key) '(?P<key>[^']+)' is not accepted")
_NOT_ACCEPTED = re.compile(r"does not accept option '(?P<key>[^']+)'")
_UNKNOWN = re.compile(r"^unrecognized arguments: --(?P<key>[^\s=]+)")
_STRAY = re.compile(r"^unrecognized arguments: (?P<value>.+)")
_NO_VALUE = re.compile(r"^argument (?:-\w/)?--(?P<key>[^\s/:]+)\S*: expected")
_COMMAND = re.compile(r"invalid choice: '(?P<value>[^']*)' \(choose from (?P<rule>.+)\)")
_NO_MAPPING = re.compile(r"Unable to load config '(?P<value>.*)'\n")
_PART = re.compile(r"Given value: NestedArg\(key='(?P<key>[^']+)', val='?(?P<value>.*?)'?\)\s*$")
_GIVEN = re.compile(r"Given value: (?P<value>.*)\s*$")
_NO_FILE = re.compile(r"(?:File does not exist|Path is not a file): '?(?P<value>[^'\n]+)'?")
_LIST = 'a list, in quotes: \'["first", "second"]\''
_MAPPING = "'{key: value}', or a file that holds one"
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
    "NonNegativeInt": "a whole number from 0 on",
    "PositiveInt": "a whole number from 1 on",
    "NonNegativeFloat": "a number from 0 on",
    "PositiveFloat": "a number above 0",
    "ClosedUnitInterval": "a number from 0 to 1",
    "OpenUnitInterval": "a number above 0 and below 1",
}


def one_line(message: str, given: Mapping[str, Any], keys: Iterable[str] = ()) -> str:
    """Says in one line which key is wrong, what was given and what would be accepted.

    Args:
        message: What jsonargparse reports, of any length.
        given: What the user gave, by dotted key, from command line and files.
        keys: All keys that there are, to name those of a group.

    Returns:
        ``key='value': reason``, or the message with its lines joined where it has no known form.
    """
    found_keys = dict.fromkeys(_KEY.findall(message))  # some are said twice
    path = [key for key in found_keys if not key.startswith("class_path")]
    for pattern, explain in _REASONS:
        found = pattern.search(message)
        if found is None:
            continue
        groups = found.groupdict()
        value = groups.get("value")
        key = _located([*path, groups["key"]] if "key" in groups else path, value, given)
        reason = explain(message, groups | {"below": _below(key, keys)})
        if not reason:
            continue
        if value is None:
            return f"{key}: {reason}"
        # Of what should be text quotes would say that it is.
        shown = value if groups.get("type") == "<class 'str'>" else _quoted(value)
        return f"{key}={shown}: {reason}"
    return " ".join(message.split())


def _quoted(value: str) -> str:
    return value if value.startswith(("'", '"', "[", "{")) else repr(value)


def _below(key: str, keys: Iterable[str]) -> str:
    """The keys of a group, as many as fit into the line."""
    rests = [name.removeprefix(f"{key}.") for name in keys if name.startswith(f"{key}.")]
    names = dict.fromkeys(rest.partition(".")[0] for rest in rests)
    return f" of {shorten(', '.join(names), 60, placeholder='...')}" if names else ""


def _unknown_class(message: str, groups: Mapping[str, str]) -> str:
    names = _subclasses(message)
    accepted = f"accepted: {', '.join(names)}, or the import path of a class"
    return f"no such class; {accepted}" if names else ""


def _subclasses(message: str) -> list[str]:
    from harness.outliers import Criterion, Edit

    bases = {f"{cls.__module__}.{cls.__name__}": cls for cls in (Criterion, Edit)}
    known = bases.get(_base(message))
    return sorted(cls.__name__ for cls in known.__subclasses__()) if known else []


def _base(message: str) -> str:
    found = _BASE.search(message)
    return found["path"] if found else ""


def _alternatives(message: str, groups: Mapping[str, str]) -> str:
    """What a value may be, where there are several types that it may have."""
    tried = [found["type"] for found in _TRIED.finditer(message.partition("Errors:")[2])]
    # Settings of the harness that are not classes to choose from are mappings.
    path = "dict" if _base(message).startswith("harness.") else "path"
    kinds = [path if kind == "dot import path string" else kind for kind in tried]
    words = dict.fromkeys(map(_kind, kinds))
    if _KINDS["float"] in words:
        words.pop(_KINDS["int"], None)
    return f"must be {', or '.join(words)}" if words else "not what is expected here; see --help"


_NO_KEY = "no such key; --help lists the keys"
_REASONS: tuple[tuple[re.Pattern[str], Callable[[str, Mapping[str, str]], str]], ...] = (
    (_NO_CLASS, _unknown_class),
    (_RESTRICTED, lambda _, groups: f"must be {_KINDS.get(groups['type']) or _rule(groups)}"),
    (_NOT_A_NUMBER, lambda _, groups: f"must be {_kind(groups['type'])}"),
    (_GOT, lambda _, groups: f"must be {_kind(groups['type'])}"),
    (_OPTION, lambda *_: _NO_KEY),
    (_NOT_ACCEPTED, lambda *_: _NO_KEY),
    (_UNKNOWN, lambda *_: _NO_KEY),
    (_STRAY, lambda *_: "belongs to no option; options begin with --"),
    (_NO_VALUE, lambda *_: "give a value"),
    (_COMMAND, lambda _, groups: "must be one of " + _unquoted(groups["rule"])),
    (_NO_FILE, lambda *_: "no such file"),
    (_NO_MAPPING, lambda _, groups: f"must be a mapping{groups['below']}: {_MAPPING}"),
    (_PART, _alternatives),
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


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and their values, leaving out class_path and init_args levels."""
    for key, value in tree.items():
        hidden = key in ("class_path", "init_args")
        path = prefix if hidden else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flatten(value, path)
        else:
            yield path, value


def check_file(path: Path, groups: Iterable[str] = ()) -> None:
    """Refuses a configuration file that is no mapping, or that says a key twice.

    YAML would keep the last of two keys without a word, and with it one of two variants.

    Args:
        path: The file.
        groups: Keys that have keys below them, which are mappings as well, or name a file of one.

    Raises:
        ConfigError: Naming the file or the group, and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(path), " ".join(str(error).split())) from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError("config", str(path), "must hold a mapping, such as `model: ...`")
    for key in _said_twice(root):
        raise ConfigError("config", str(path), f"says {key} twice")
    for group in groups:
        value = _below_path(tree, group.split("."))
        if not isinstance(value, Mapping | str):
            reason = f"must be a mapping, in {path}; --help lists its keys"
            raise ConfigError(group, value, reason)


def _below_path(tree: Any, path: list[str]) -> Any:
    """What a file says at a path; an empty mapping where it says nothing."""
    for part in path:
        tree = tree.get(part, {}) if isinstance(tree, Mapping) else {}
    return tree


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
    """Yields dotted keys and values of options on a command line, and those within mappings."""
    items = list(argv)
    for position, item in enumerate(items):
        if not item.startswith("--"):
            continue
        key, equals, value = item[2:].partition("=")
        if not equals and position + 1 < len(items):
            value = items[position + 1]
        key = key.replace(".init_args", "")
        yield key, value
        if isinstance(inner := _read(value), Mapping):
            yield from flatten(inner, key)


def _read(value: Any) -> Any:
    """What a list or a mapping on the command line holds; anything else as it is."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        with suppress(yaml.YAMLError):
            return yaml.safe_load(value)
    return value
