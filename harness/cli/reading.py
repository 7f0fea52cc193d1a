"""YAML as a configuration means it: keys are text, and a file of a few lines stays one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.cli.keys import CHOSEN, class_named
from harness.errors import ConfigError

SUFFIXES = (".yaml", ".yml", ".json")
"""How the names of files end that a key can be given in place of its mapping."""

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000
MOST_LEVELS = 50

_FLOAT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Takes keys as the text that was written, `1e-3` as a number and dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (as the base class declares it)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if isinstance(parent, yaml.MappingNode) and index is None:  # a key
            if not isinstance(node, yaml.ScalarNode):
                raise yaml.YAMLError(f"has a key that is no text\n{parent.start_mark}")
            if not node.tag.endswith(":merge"):
                node.tag = self.DEFAULT_SCALAR_TAG
        return node


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def load(text: str) -> Any:
    """Reads a value of the command line, or a whole file; names of classes are spelt as they are.

    Raises:
        yaml.YAMLError: Text that is no YAML, or that grows without end.
    """
    value = _constructed(_composed(text))
    if isinstance(value, dict) and value and all(inner is None for inner in value.values()):
        return text  # a sentence with a colon at its end
    return value


def load_file(path: Path, key: str) -> dict[str, Any]:
    """Reads a configuration file.

    Args:
        path: The file.
        key: The key that names it, for errors.

    Raises:
        ConfigError: For what is no file of a few lines, no mapping, or says a key twice: YAML would
            keep the last of two keys without a word, and with it one of two variants.
    """

    def refused(reason: str) -> ConfigError:
        return ConfigError(key, str(path), reason)

    try:
        if not path.is_file():
            is_other = path.exists() and not path.is_dir()
            raise refused("is no regular file" if is_other else "no such file")
        if path.stat().st_size > MOST_BYTES:
            raise refused(f"has more than {MOST_BYTES:,} bytes, which is no configuration")
        root = _composed(path.read_text(encoding="utf-8"))
        twice = list(_said_twice(root))
        tree = _constructed(root)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise refused(" ".join(str(error).split())) from error
    except OSError as error:
        raise refused(f"cannot be read ({error.strerror})") from error
    if not isinstance(tree, dict):
        raise refused("must hold a mapping, such as `model: ...`")
    if twice:
        raise refused(f"says {twice[0]} twice")
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and their values without class_path and init_args, a class first."""
    for key, value in sorted(tree.items(), key=lambda item: item[0] != "class_path"):
        hidden = key in ("class_path", "init_args")
        path = prefix if hidden else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flatten(value, path)
        else:
            yield path, value


def _composed(text: str) -> yaml.Node | None:
    try:
        root = yaml.compose(text, _Loader)
        values, levels = _extent(root, {}) if root else (0, 0)
    except RecursionError:
        raise yaml.YAMLError("is nested without end") from None
    if values > MOST_VALUES or levels > MOST_LEVELS:
        raise yaml.YAMLError("grows or is nested without end, once its aliases are followed")
    return root


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node holds, and how deep, with its aliases written out."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES, MOST_LEVELS  # until it is known: of what holds itself
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [value for _, value in node.value]
        extents = [_extent(child, known) for child in children]
        deepest = max((levels for _, levels in extents), default=0)
        known[id(node)] = 1 + sum(values for values, _ in extents), 1 + deepest
    return known[id(node)]


def _said_twice(node: yaml.Node | None, prefix: str = "") -> Iterator[str]:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        if path in seen:
            yield path
        seen.add(path)
        yield from _said_twice(value, f"{path}.")


def _constructed(root: yaml.Node | None) -> Any:
    loader = _Loader("")
    try:
        return None if root is None else _spelt(loader.construct_document(root))
    finally:
        loader.dispose()


def _spelt(value: Any) -> Any:
    """The same with the names of classes as they are written."""
    if isinstance(value, list):
        return [_spelt(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    for kind in CHOSEN.keys() & value.keys():
        chosen = value[kind]
        if isinstance(chosen, str):
            value[kind] = class_named(kind, chosen)
        elif isinstance(chosen, dict) and isinstance(chosen.get("class_path"), str):
            chosen["class_path"] = class_named(kind, chosen["class_path"])
    return {key: _spelt(inner) for key, inner in value.items()}
