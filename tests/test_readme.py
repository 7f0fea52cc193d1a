"""What README shows can be copied and run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_lines_of_python_run() -> None:
    (code,) = [block for block in blocks("python") if "Evaluator" in block]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = dict(re.findall(r"^(\w+) +([\d.]+) nats per token$", done.stdout, re.MULTILINE))
    assert list(figures) == ["original", "sigma5", "random"]
    assert float(figures["sigma5"]) > float(figures["original"]) + 0.05
    assert abs(float(figures["random"]) - float(figures["original"])) < 0.05


def test_nothing_is_left_to_be_filled_in() -> None:
    assert not re.search(r"@[A-Z]+@|TODO", README)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_is_of_variants(text: str) -> None:
    assert "variants" in yaml.safe_load(text)["model"]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:configs|harness)/[\w./-]+\w", README))))
def test_what_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()
