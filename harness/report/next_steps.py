"""The last lines of a run: where everything is, and what can be done with it."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text


def show_next_steps(folder: Path, command: str, console: Console | None = None) -> None:
    """Prints what to open, and what to call next.

    Args:
        folder: The run's folder.
        command: What was run: ``fit``, ``validate``, ``test`` or ``predict``.
        console: Where to print; the terminal by default.
    """
    console = console or Console()
    console.print()
    for name, what in _steps(folder, command).items():
        # A command that is cut into lines could not be copied.
        console.print(Text(f"{name:<12}{what}"), soft_wrap=True)


def _steps(folder: Path, command: str) -> dict[str, str]:
    quoted = {name: shlex.quote(str(folder / name)) for name in ("", "report.md", "variants.csv")}
    board = {"TensorBoard": f"tensorboard --logdir {quoted['']}"}
    if command == "fit":
        best = shlex.quote(str(folder / "checkpoints" / "best"))
        measure = f"python -m harness validate --model.pretrained {best}"
        return {"checkpoints": str(folder / "checkpoints"), "measure it": measure, **board}
    texts = {"texts": shlex.quote(str(folder / "generations.jsonl"))}
    return {
        "report": quoted["report.md"],
        **(texts if command == "predict" else {}),
        "for pandas": quoted["variants.csv"],
        **board,
        "compare": f"tensorboard --logdir {shlex.quote(str(folder.parent))}",
    }
