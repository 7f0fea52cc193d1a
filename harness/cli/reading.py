"""YAML as a configuration means it: keys are text, and a file of a few lines stays one."""

from __future__ import annotations

import re
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
    """Takes keys as the text that was written, `1e-3` as a number and dates as text.

    Refuses a key that is said twice, of which YAML would keep the last without a word, and what
    grows or is nested without end once its aliases are followed. Spells the names of classes.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  (as the base class declares it)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._extents: dict[yaml.Node | None, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if isinstance(parent, yaml.MappingNode) and index is None:  # a key
            if not isinstance(node, yaml.ScalarNode):
                raise yaml.YAMLError(f"has a key that is no text\n{parent.start_mark}")
            if not node.tag.endswith(":merge"):
                node.tag = self.DEFAULT_SCALAR_TAG
            if node.value in [key.value for key, _ in parent.value]:
                raise yaml.YAMLError(f"says {node.value} twice\n{node.start_mark}")
        elif isinstance(node, yaml.ScalarNode) and isinstance(index, yaml.ScalarNode):
            for kind in CHOSEN:
                if index.value in (kind, "class_path"):
                    node.value = class_named(kind, node.value)
        if not is_alias:
            self._measure(node)
        return node

    def _measure(self, node: yaml.Node | None) -> None:
        """Counts a node's values and levels; what holds itself meets a part not counted yet."""
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            parts = [value for _, value in parts]
        extents = [self._extents.get(part, (MOST_VALUES, MOST_LEVELS)) for part in parts]
        values = 1 + sum(values for values, _ in extents)
        levels = 1 + max((levels for _, levels in extents), default=0)
        if values > MOST_VALUES or levels > MOST_LEVELS:
            raise yaml.YAMLError("grows or is nested without end, once its aliases are followed")
        self._extents[node] = values, levels


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def load(text: str) -> Any:
    """Reads a value of the command line, or a whole file; names of classes are spelt as they are.

    Raises:
        yaml.YAMLError: Text that is no YAML, or that grows without end.
    """
    value = _read(text)
    if isinstance(value, dict) and value and all(inner is None for inner in value.values()):
        return text  # a sentence with a colon at its end
    return value


def load_file(path: Path, key: str) -> dict[str, Any]:
    """Reads a configuration file.

    Args:
        path: The file.
        key: The key that names it, for errors.

    Raises:
        ConfigError: For what is no file of a few lines, or holds no mapping.
    """

    def refused(reason: str) -> ConfigError:
        return ConfigError(key, str(path), reason)

    try:
        if not path.is_file():
            is_other = path.exists() and not path.is_dir()
            raise refused("is no regular file" if is_other else "no such file")
        if path.stat().st_size > MOST_BYTES:
            raise refused(f"has more than {MOST_BYTES:,} bytes, which is no configuration")
        tree = _read(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise refused(" ".join(str(error).split())) from error
    except OSError as error:
        raise refused(f"cannot be read ({error.strerror})") from error
    if not isinstance(tree, dict):
        raise refused("must hold a mapping, such as `model: ...`")
    return tree


def _read(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("is nested without end") from None
