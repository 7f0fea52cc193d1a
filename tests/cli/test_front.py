"""What the command line says at once, without any of the heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import __version__
from harness.cli import main
from harness.cli.page import COMMANDS, PAGE

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "lightning", "jsonargparse", "transformers", "numpy", "rich", "pyarrow")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Calls the command line; returns status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *argv])
        status = main()
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        ((), 0),
        (("--help",), 0),
        (("--version",), 0),
        (("validat",), 2),
        (("validate", "--model.pretraind", "gpt2"), 2),
        (("validate", "--model.variants.x.edit", "Zeroo"), 2),
        (("fit", "-c", "nowhere.yaml"), 2),
    ],
)
def test_no_heavy_library_is_imported_before_it_is_needed(
    argv: tuple[str, ...], status: int
) -> None:
    code = (
        "import sys\n"
        "from harness.__main__ import run\n"
        f"sys.argv = ['harness', *{argv!r}]\n"
        "try:\n    run()\n"
        "except SystemExit as stop:\n"
        f"    assert stop.code == {status}, stop.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.parametrize("argv", [(), ("-h",), ("--help",)])
def test_the_first_page_of_help_fits_one_screen(said, argv: tuple[str, ...]) -> None:
    status, out, err = said(*argv)
    assert (status, out, err) == (0, PAGE, "")
    lines = out.splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    for command, says in COMMANDS.items():
        assert f"  {command:<9} {says}" in lines
    assert "python -m harness validate --help" in lines[-1]


def test_the_version(said) -> None:
    assert said("--version") == (0, f"outlier-harness {__version__}\n", "")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (
            ("validat",),
            "command='validat': must be one of validate, test, predict, fit; did",
        ),
        (("VALIDATE",), "must be one of validate, test, predict, fit; did you mean validate?"),
        (("xyz",), "command='xyz': must be one of validate, test, predict, fit\n"),
        (
            ("--model", "gpt2"),
            "argument='--model': belongs after the command: python -m ",
        ),
        (("\x1b[2J",), r"command='\x1b[2J': must be"),
    ],
)
def test_what_is_no_command(said, argv: tuple[str, ...], says: str) -> None:
    status, out, err = said(*argv)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(MemoryError(), 1), (OSError(28, "No space left on device", "/somewhere"), 1)],
)
def test_what_runs_out_before_there_is_a_run(
    said, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fails(argv: object, given: object, launch: object) -> int:
        raise error

    monkeypatch.setattr("harness.cli.commands.run", fails)
    found, out, err = said("validate")
    assert (found, out) == (status, "")
    assert err.startswith("stopped: ")
    assert err.count("\n") == 1


def test_any_other_fault_keeps_its_traceback(said, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(argv: object, given: object, launch: object) -> int:
        raise ValueError("a fault")

    monkeypatch.setattr("harness.cli.commands.run", fails)
    with pytest.raises(ValueError, match="a fault"):
        said("validate")
