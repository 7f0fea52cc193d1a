"""The keys of the configuration, read from the sources: to import them takes many seconds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import ConfigError

GROUPS = {
    "run": ("harness.tracking", "RunRecorder"),
    "model": ("harness.evaluation.experiment", "OutlierExperiment"),
    "data": ("harness.data", "TextDataModule"),
    "activations": ("harness.tracking", "ActivationStatistics"),
    "trainer": ("lightning.pytorch", "Trainer"),
}
"""Where the arguments of a group are the keys below it, in the order of the help."""

CHOSEN = {"criterion": "Criterion", "edit": "Edit"}
"""Keys of a variant that choose a class by its name, and what the class is one of."""

_SINGLE = ("seed_everything", "ckpt_path", "config", "print_config", "help")
_LINKED = "data.source"
_ANY = "*"

Keys = Mapping[str, Any]
"""Keys by name, each with those below it; with none where whatever stands below is no key of ours.

The name `*` stands for any.
"""


@cache
def known_keys() -> Keys:
    """All keys; none where the sources cannot be read."""
    try:
        groups = {name: _arguments(*place, name) for name, place in GROUPS.items()}
    except (OSError, SyntaxError, AttributeError):
        return {_ANY: {}}
    return {key: {} for key in _SINGLE} | groups


def check_key(key: str, value: object) -> None:
    """Refuses a key that is none, and says which one comes near.

    Args:
        key: The dotted key.
        value: What it was given.

    Raises:
        ConfigError: Under that key.
    """
    level = known_keys()
    parts = _split(key.removesuffix("+"))
    for place, part in enumerate(parts):
        if not level or part == "help":
            return
        if part not in level and _ANY not in level:
            above, below = parts[:place], parts[place + 1 :]
            near = {name: ".".join([*above, name, *below]) for name in level}
            if not above:  # a key may have been written without its group
                near = {n: f"{group}.{n}" for group, names in level.items() for n in names} | near
            reason = f"no such key{nearest(part, near) or '; --help lists the keys'}"
            raise ConfigError(key, value, reason)
        level = _below_part(level, part)


def keys_below(key: str) -> Keys:
    """The keys below a key; none where it has a value of its own."""
    level = known_keys()
    for part in _split(key):
        level = _below_part(level, part)
    return level


def _split(key: str) -> list[str]:
    """The parts of a dotted key; the name of a variant may have dots of its own."""
    parts, rest, level = [], key.split("."), known_keys()
    while rest:
        part = rest.pop(0)
        if part not in level and _ANY in level:
            ends = [place for place, name in enumerate(rest) if name in level[_ANY]]
            part = ".".join([part, *rest[: min(ends, default=0)]])
            rest = rest[min(ends, default=0) :]
        parts.append(part)
        level = _below_part(level, part)
    return parts


def _below_part(level: Keys, part: str) -> Keys:
    below: Keys = level.get(part) or level.get(_ANY, {})
    return below


def nearest(word: str, names: Mapping[str, str]) -> str:
    """Asks whether what comes nearest to a word is meant; empty where nothing is near.

    Args:
        word: What the user wrote.
        names: What there is, and how to show each.
    """
    plain = {_plain(name): shown for name, shown in names.items()}
    found = get_close_matches(_plain(word), plain, n=1)
    found = found or [name for name in plain if name.startswith(_plain(word))]
    return f"; did you mean {plain[found[0]]}?" if found else ""


def class_named(kind: str, name: str) -> str:
    """Spells the name of a class as it is written, whatever its case: `zero` is `Zero`.

    Args:
        kind: `criterion` or `edit`.
        name: What the user wrote: a name, or the import path of a class.
    """
    return {_plain(known): known for known in class_names(kind)}.get(_plain(name), name)


def class_names(kind: str) -> list[str]:
    """Names of the classes of the harness that a key can choose."""
    return sorted(_classes(kind))


def arguments_taken(kind: str) -> str:
    """Says which arguments each of those classes takes."""
    taken = []
    for name in class_names(kind):
        if fields := [field for field, _ in _annotated(_classes(kind)[name])]:
            taken.append(f"{name} takes {' and '.join(fields)}")
    return ", ".join(taken)


@cache
def _classes(kind: str) -> dict[str, ast.ClassDef]:
    folder = _source("harness.outliers").parent
    nodes = [node for path in folder.glob("*.py") for node in _parsed(path).body]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return {c.name: c for c in classes if CHOSEN[kind] in map(ast.unparse, c.bases)}


def _plain(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


def _arguments(module: str, name: str, path: str) -> Keys:
    """Arguments of a class, each with the keys that its type has."""
    module, found = _located(module, name)
    return {
        argument: _below(module, annotation, f"{path}.{argument}")
        for argument, annotation in _annotated(found)
        if f"{path}.{argument}" != _LINKED
    }


def _below(module: str, annotation: ast.expr | None, path: str) -> Keys:
    """Keys of the settings that an annotation names: a class of the harness with arguments."""
    text = ast.unparse(annotation) if annotation and module.startswith("harness.") else ""
    for name in re.findall(r"\b[A-Z]\w+", text):
        keys = _arguments(module, name, path) if name not in CHOSEN.values() else {}
        if keys:
            return {_ANY: keys} if text.startswith("dict[") else keys
    return {}


def _annotated(found: ast.ClassDef | None) -> Iterator[tuple[str, ast.expr | None]]:
    """Names and types of a class's arguments: those of its constructor, or its fields."""
    body = found.body if found else []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = [*node.args.args[1:], *node.args.kwonlyargs]
            yield from ((argument.arg, argument.annotation) for argument in arguments)
            return
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation


def _located(module: str, name: str) -> tuple[str, ast.ClassDef | None]:
    """The module that defines a class, and the definition; None for what is of another library."""
    for node in _parsed(_source(module)).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            origin = str(node.module)
            if origin.partition(".")[0] == module.partition(".")[0]:
                return _located(origin, name)
    return module, None


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _source(module: str) -> Path:
    """The file of a module, found without importing the packages that it lies in."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    path = Path(str(spec and spec.origin)).parent.joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
