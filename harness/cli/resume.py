"""``--resume RUN``: a run's own configuration first, then whatever else was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError

_KEY = "--resume"


def resumed(argv: Sequence[str]) -> list[str]:
    """The command line with the configuration of the run that it resumes.

    Args:
        argv: The command, and what follows.

    Raises:
        ConfigError: If no run folder is named, or it is one of another command.
    """
    found = [place for place, item in enumerate(argv) if item.partition("=")[0] == _KEY]
    if not found:
        return list(argv)
    first, rest = found[0], list(argv)
    value = rest.pop(first).partition("=")[2]
    if not value and first < len(rest):
        value = rest.pop(first)
    folder = Path(value)
    accepted = "give the folder of a run, such as logs/demo/version_0"
    if not value or not folder.is_dir():
        raise ConfigError("resume", value, f"no such folder; {accepted}")
    config = folder / "config.yaml"
    if not config.is_file():
        raise ConfigError("resume", value, f"has no config.yaml; {accepted}")
    command, *others = rest
    made_by = _command(folder)
    if made_by and made_by != command:
        reason = f"is a run of {made_by}: python -m harness {made_by} --resume {value}"
        raise ConfigError("resume", value, reason)
    begun = ["-c", str(config)]
    if command == "fit":
        begun += ["--ckpt_path", str(_checkpoint(folder, value))]
    return [command, *begun, *others, "--run.resume", str(folder.resolve())]


def _checkpoint(folder: Path, value: str) -> Path:
    """The last checkpoint of a training."""
    found = (folder / "checkpoints").glob("*.ckpt")
    last = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if last is None:
        reason = "has no checkpoint to go on from: it ended before the first was saved"
        raise ConfigError("resume", value, reason)
    return last


def _command(folder: Path) -> str | None:
    """The command of a run; None where it has not got as far as to note it."""
    path = folder / "journal" / "command"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None
