"""The keys of the configuration and their types, read from the sources, which import slowly."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from harness.errors import ConfigError

GROUPS = {
    "run": ("harness.tracking", "RunRecorder"),
    "model": ("harness.evaluation.experiment", "OutlierExperiment"),
    "data": ("harness.data", "TextDataModule"),
    "activations": ("harness.probes.settings", "ActivationStatistics"),
    "trainer": ("lightning.pytorch", "Trainer"),
}
"""Where the arguments of a group are the keys below it, in the order of the help."""

CHOSEN = {"criterion": "Criterion", "edit": "Edit"}
"""Keys of a variant that choose a class by its name, and what the class is one of."""

_SINGLE = ("ckpt_path", "config", "print_config", "help")
_LINKED = ("data.source", "model.activations")
_ANY = "*"
_ANYTHING = ast.Name("Any")


@dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
        hint: The type of its value, its aliases written out.
        below: The keys below it by name, where `*` stands for any; none where whatever stands below
            is no key of ours.
    """

    hint: ast.expr = _ANYTHING
    below: Mapping[str, Key] = field(default_factory=dict)

    def at(self, part: str) -> Key:
        """The key below it of that name."""
        return self.below.get(part) or self.below.get(_ANY) or Key()


@cache
def known_keys() -> Key:
    """All keys; none where the sources cannot be read."""
    try:
        groups = {n: Key(below=_arguments(*place, n)) for n, place in GROUPS.items()}
    except (OSError, SyntaxError, AttributeError):
        return Key()
    seed = Key(ast.parse("bool | int", mode="eval").body)
    return Key(below={name: Key() for name in _SINGLE} | {"seed_everything": seed} | groups)


def find_key(key: str, value: object) -> Key:
    """Finds a key, or refuses it and says which one comes near.

    Args:
        key: The dotted key.
        value: What it was given.

    Raises:
        ConfigError: Under that key, where it is none.
    """
    found, parts = known_keys(), split_key(key.removesuffix("+"))
    for place, part in enumerate(parts):
        if not found.below or part == "help":
            return Key()
        if part not in found.below and _ANY not in found.below:
            above, under = parts[:place], parts[place + 1 :]
            near = {name: ".".join([*above, name, *under]) for name in found.below}
            if not above:  # a key may have been written without its group
                groups = found.below.items()
                near = {n: f"{group}.{n}" for group, key in groups for n in key.below} | near
            reason = f"no such key{nearest(part, near) or '; --help lists the keys'}"
            raise ConfigError(key, value, reason)
        found = found.at(part)
    return found


def split_key(key: str) -> list[str]:
    """The parts of a dotted key; the name of a variant may have dots of its own."""
    parts, rest, found = [], key.split("."), known_keys()
    while rest:
        part = rest.pop(0)
        if part not in found.below and _ANY in found.below:
            ends = [place for place, name in enumerate(rest) if name in found.at(part).below]
            part = ".".join([part, *rest[: min(ends, default=0)]])
            rest = rest[min(ends, default=0) :]
        parts.append(part)
        found = found.at(part)
    return parts


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


def class_arguments(kind: str, name: str) -> Mapping[str, ast.expr]:
    """Types of the arguments of one of those classes, by their names."""
    return dict(_annotated(_classes(kind)[name]))


@cache
def _classes(kind: str) -> dict[str, ast.ClassDef]:
    folder = _source("harness.outliers").parent
    nodes = [node for path in folder.glob("*.py") for node in _parsed(path).body]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    return {c.name: c for c in classes if CHOSEN[kind] in map(ast.unparse, c.bases)}


def _plain(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


def _arguments(module: str, name: str, path: str) -> dict[str, Key]:
    """Arguments of a class, each with its type and the keys that this has."""
    module, found = _located(module, name)
    keys = {}
    for argument, hint in _annotated(found):
        if f"{path}.{argument}" not in _LINKED:
            hint = _Aliases(module).visit(hint)
            keys[argument] = Key(hint, _below(module, hint, f"{path}.{argument}"))
    return keys


def _below(module: str, hint: ast.expr, path: str) -> dict[str, Key]:
    """Keys of what may be in a mapping, or of the settings that a class of the harness names."""
    for option in alternatives(hint) if module.startswith("harness.") else ():
        name, inner = parameters(option)
        if name == "dict" and ast.unparse(inner[1]) != "Any":
            return {_ANY: Key(inner[1], _below(module, inner[1], path))}
        if name.isidentifier() and name not in CHOSEN.values():
            return _arguments(module, name, path)
    return {}


def alternatives(hint: ast.expr) -> Iterator[ast.expr]:
    """The types of a union, or the one that a type is."""
    name, inner = parameters(hint)
    if isinstance(hint, ast.BinOp):
        inner = [hint.left, hint.right]
    elif name == "Optional":
        inner = [*inner, ast.Constant(None)]
    elif name != "Union":
        yield hint
        return
    for part in inner:
        yield from alternatives(part)


def parameters(hint: ast.expr) -> tuple[str, list[ast.expr]]:
    """The name of a type, and what stands in its brackets."""
    if not isinstance(hint, ast.Subscript):
        return ast.unparse(hint), []
    inner = hint.slice.elts if isinstance(hint.slice, ast.Tuple) else [hint.slice]
    return ast.unparse(hint.value), inner


class _Aliases(ast.NodeTransformer):
    """Writes out the names that a module, or one that it imports from, gives to types."""

    def __init__(self, module: str) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        # Names of another library's classes are not followed: to parse them all takes a while.
        if not (self.module.startswith("harness.") or node.id.startswith("_")):
            return node
        module, found = _located(self.module, node.id)
        if not isinstance(found, ast.Assign):
            return node
        written: ast.expr = _Aliases(module).visit(found.value)
        return written


def _annotated(found: ast.stmt | None) -> Iterator[tuple[str, ast.expr]]:
    """Names and types of a class's arguments: those of its constructor, or its fields."""
    body = found.body if isinstance(found, ast.ClassDef) else []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = [*node.args.args[1:], *node.args.kwonlyargs]
            yield from ((a.arg, a.annotation or _ANYTHING) for a in arguments)
            return
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.annotation


def _located(module: str, name: str) -> tuple[str, ast.stmt | None]:
    """The module that defines a name, and the definition; None for what is of another library."""
    for node in _parsed(_source(module)).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
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
