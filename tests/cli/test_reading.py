"""Configuration files: keys are text, and what is none is refused in one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.reading import MOST_BYTES, load, load_file
from harness.errors import ConfigError

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 64))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400))


@pytest.mark.parametrize("key", ["no", "on", "5", "1.5", "null", "~", "true", "2024-01-01", "1e3"])
def test_a_key_is_the_text_that_was_written(key: str) -> None:
    assert load(f"{{{key}: 1, b: {{{key}: 2}}}}") == {key: 1, "b": {key: 2}}
    assert load(f"{key}:\n  x: 1\n") == {key: {"x": 1}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2E5", -2e5),
        ("1.5e+3", 1500.0),
        ("'1e-3'", "1e-3"),
        ("2024-01-01", "2024-01-01"),
        (".inf", float("inf")),
        ("7", 7),
        ("no", False),
        ("null", None),
        ("", None),
        ("[1, x]", [1, "x"]),
        ("Once upon a time:", "Once upon a time:"),
        ("{a, b}", "{a, b}"),
        ("b: &b {x: 1, y: 2}\nc: {<<: *b, x: 3}", {"b": {"x": 1, "y": 2}, "c": {"x": 3, "y": 2}}),
        ("{edit: zero}", {"edit": "Zero"}),
        ("[{edit: {class_path: ZERO}}]", [{"edit": {"class_path": "Zero"}}]),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert load(text) == value


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        CHAIN,
        "a: &a [*a]",
        "a: &a {b: *a}",
        "[" * 5000,
        "{a: " * 2000,
        "[" * 60 + "]" * 60,
        "? [a]\n: 1",
        "a: !!python/object/apply:os.system [x]",
        "a: *nowhere",
        "a: [",
        "\x07",
    ],
    ids=lambda text: text[:16],
)
def test_what_is_no_configuration(text: str, tmp_path: Path) -> None:
    with pytest.raises(yaml.YAMLError):
        load(text)
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_file(path, "config")
    assert "\n" not in str(error.value)
    assert error.value.key == "config"


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    files = {
        "binary.yaml": (b"\x89PNG\r\n\x1a\n\x00\x00", "can't decode"),
        "huge.yaml": (b"a: 1\n" * (MOST_BYTES // 4), "more than 1,000,000 bytes"),
        "list.yaml": (b"- a\n- b\n", "must hold a mapping"),
        "empty.yaml": (b"", "must hold a mapping"),
        "twice.yaml": (
            b"model:\n  variants:\n    a: {}\n    a: {}\n",
            "says a twice",
        ),
    }
    for name, (content, says) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=says):
            load_file(tmp_path / name, "config")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is no regular file"):
        load_file(tmp_path / "pipe", "config")
    for path in (tmp_path, tmp_path / "nowhere.yaml", Path("/dev/null/x"), Path("x" * 5000)):
        with pytest.raises(ConfigError, match=r"no such file|cannot be read"):
            load_file(path, "config")
