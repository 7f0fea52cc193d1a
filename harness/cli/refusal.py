"""Full keys for what the parser, or a class that it makes, refuses under a part of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from textwrap import dedent, shorten
from typing import Any

from harness.cli.given import values_in
from harness.cli.keys import CHOSEN, GROUPS, split_key, taken
from harness.errors import ConfigError

_NAMED = re.compile(r"""(?:Parser key|Option) ['"]([^'"]+)""")
_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+)'>")
_OF_CLASS = re.compile("is not accepted|is abstract")
_MOST = 200


def refusal(message: str, given: Iterable[tuple[str, Any]]) -> str:
    """Says in one line what jsonargparse says in many.

    Args:
        message: What it reports.
        given: Dotted keys and values, from command line and files.

    Returns:
        ``key=value: reason`` where a key is told, else its words.
    """
    stray = message.removeprefix("unrecognized arguments: ")
    if stray != message:
        return f"argument={stray!r}: belongs to no option of this command; options begin with --"
    words = _innermost(message)
    named = [part for name in dict.fromkeys(_NAMED.findall(message)) for part in name.split(".")]
    for end in range(len(named), 0, -1):
        found = [pair for pair in given if _runs_through(pair[0].split("."), named[:end])]
        if found:
            key, value = max(found, key=lambda pair: (f"{pair[1]}" in message, len(pair[0])))
            parts = split_key(key)
            if _OF_CLASS.search(words) and len(parts) > 3 and parts[3] in CHOSEN:
                words += f"; {taken(parts[3])}"
            return str(ConfigError(key, value, words))
    return words


def _innermost(message: str) -> str:
    """Of types within types the innermost says what is wrong; of several each what it expects."""
    tried = dedent(message.rpartition("Errors:\n")[2].partition("Given value type:")[0])
    first, *others = tried.strip().removeprefix("- ").split("\n- ")
    reason = first.rpartition(":\n")[2]
    if reason == first and first.startswith("Expected"):
        reason = " or ".join(other.partition(". Got value")[0] for other in (first, *others))
        reason = reason.replace(" or Expected a", " or").replace("NoneType", "null")
    reason = _CLASS.sub(r"\1", reason).partition(". Got value")[0]
    reason = re.sub(r"(a )?typing\.Literal", "one of ", reason)
    return shorten(reason, _MOST, placeholder="...")


def _runs_through(path: list[str], parts: list[str]) -> bool:
    rest = iter(path)
    return all(part in rest for part in parts)


def in_full(raised: BaseException | None, variants: Mapping[str, Any]) -> ConfigError | None:
    """What is refused, under its full key: a class of a variant names its argument alone.

    Args:
        raised: What was raised as the configuration was made into objects; jsonargparse raises
            errors of its own from those of a class.
        variants: The variants of the configuration, by name.

    Returns:
        None where what was raised is no refusal.
    """
    if not isinstance(raised, ConfigError):
        return in_full(raised.__cause__, variants) if raised else None
    if raised.key.partition(".")[0] in GROUPS:
        return raised
    for key, value in values_in("model.variants", variants):
        if key.endswith(f".{raised.key}") and repr(value) == repr(raised.value):
            return ConfigError(key, value, raised.reason)
    return raised
