"""``results.json`` as text."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from harness.results.schema import Results

_KEYS = {"class_name": "class"}  # the one key that can be no name in Python


def to_json(results: Results) -> str:
    """Returns the text of ``results.json``.

    Keys stand in the order in which the schema declares them, floats with every digit they need to
    be read back the same, and what is not finite becomes ``null``.
    """
    record = asdict(results, dict_factory=_named)
    # JSON has no other numbers than finite ones, and Python's reader names those it would add.
    finite = json.loads(json.dumps(record), parse_constant=lambda _: None)
    return json.dumps(finite, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _named(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {_KEYS.get(name, name): value for name, value in fields}
