"""The names of keys and classes, read from the sources, which take seconds to import."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from harness.errors import ConfigError

Arguments = Mapping[str, str]
"""Names of arguments, and the type of each as it is written."""

GROUPS = ("run", "model", "data", "activations", "trainer")
"""Where the arguments of a class are the keys below, in the order of the help."""

CHOSEN = {
    "criterion": ("harness/outliers/criteria.py", "Criterion"),
    "edit": ("harness/outliers/edits.py", "Edit"),
}
"""Keys of a variant that choose a class by its name: where those are, and what each is one of."""

_VARIANTS, _VARIANT = "model.variants", "model.variants.*"
_CLASSES = {
    "run": ("harness/tracking/recorder.py", "RunRecorder"),
    "model": ("harness/evaluation/experiment.py", "OutlierExperiment"),
    "model.training": ("harness/evaluation/training.py", "Training"),
    "model.generation": ("harness/writing/settings.py", "Generation"),
    _VARIANT: ("harness/outliers/variants.py", "VariantConfig"),
    f"{_VARIANT}.scope": ("harness/outliers/scope.py", "Scope"),
    "data": ("harness/data/module.py", "TextDataModule"),
    "activations": ("harness/probes/settings.py", "ActivationStatistics"),
    "activations.sites": ("harness/probes/sites.py", "Sites"),
    "trainer": ("lightning/pytorch/trainer/trainer.py", "Trainer"),
}
_SINGLE = {"seed_everything": "bool | int"} | dict.fromkeys(
    ("ckpt_path", "config", "print_config", "help"), "str | None"
)


@cache
def known_keys() -> Mapping[str, Arguments]:
    """The keys below each key, by that key; of those with any names below there is none."""
    known = {"": _SINGLE | dict.fromkeys(GROUPS, "a mapping")}
    for above, (path, name) in _CLASSES.items():
        known[above] = dict(_classes(path)[name][1])
    del known["model"]["activations"], known["data"]["source"]  # linked
    return known


def find_key(key: str, value: object) -> tuple[str, Arguments]:
    """Finds a key, or refuses it and says which one comes near.

    Args:
        key: The dotted key.
        value: What it was given.

    Returns:
        Its type, and the keys below it; none where whatever stands below is no key of ours.

    Raises:
        ConfigError: Under that key, where it is none.
    """
    known, above, hint = known_keys(), "", "Any"
    parts = split_key(key.removesuffix("+"))
    for place, part in enumerate(parts):
        if above == _VARIANTS and part != "help":
            above, hint = _VARIANT, "VariantConfig | None"
            continue
        names = known.get(above)
        if names is None or part == "help":
            return "Any", {}
        if part not in names:
            near = {name: ".".join([*parts[:place], name, *parts[place + 1 :]]) for name in names}
            if not above:  # a key may have been written without its group
                near = {name: f"{group}.{name}" for group in GROUPS for name in known[group]} | near
            reason = f"no such key{nearest(part, near) or '; --help lists the keys'}"
            raise ConfigError(key, value, reason)
        above, hint = f"{above}.{part}".lstrip("."), names[part]
    return hint, known.get(above, {})


def split_key(key: str) -> list[str]:
    """The parts of a dotted key; the name of a variant may have dots of its own."""
    parts = key.split(".")
    if key.startswith(f"{_VARIANTS}."):
        ends = (n for n, part in enumerate(parts) if n > 2 and part in known_keys()[_VARIANT])
        end = next(ends, 3)
        parts[2:end] = [".".join(parts[2:end])]
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


def choices(kind: str) -> dict[str, list[str]]:
    """Classes of the harness that `criterion` or `edit` can choose, and the arguments of each."""
    path, base = CHOSEN[kind]
    return {name: list(has) for name, (bases, has) in _classes(path).items() if base in bases}


def taken(kind: str) -> str:
    """Which class takes which arguments, in words."""
    takes = choices(kind).items()
    return ", ".join(f"{name} takes {' and '.join(has) or 'none'}" for name, has in takes)


def class_named(kind: str, name: str) -> str:
    """Spells the name of a class as it is written, whatever its case: `zero` is `Zero`.

    Args:
        kind: `criterion` or `edit`.
        name: What the user wrote: a name, or the import path of a class.
    """
    return {_plain(known): known for known in choices(kind)}.get(_plain(name), name)


def _plain(name: str) -> str:
    return re.sub(r"[-_]", "", name).lower()


@cache
def _classes(path: str) -> dict[str, tuple[list[str], Arguments]]:
    """The classes of a file by name: the bases of each, and its constructor's arguments."""
    package, _, file = path.partition("/")
    spec = find_spec(package)  # found without being imported
    tree = ast.parse((Path(str(spec and spec.origin)).parent / file).read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: (list(map(ast.unparse, node.bases)), _arguments(node)) for node in nodes}


def _arguments(node: ast.ClassDef) -> Arguments:
    """Those of its constructor, or its fields where it is a dataclass."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            arguments = [*part.args.args[1:], *part.args.kwonlyargs]
            return {a.arg: ast.unparse(a.annotation) if a.annotation else "Any" for a in arguments}
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    return {ast.unparse(field.target): ast.unparse(field.annotation) for field in fields}
