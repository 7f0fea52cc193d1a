"""A run's folder under ``logs/``: its place, its number and its status."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from harness.base.files import write_text
from harness.errors import ConfigError

Status = Literal["running", "interrupted", "complete"]


class RunFolder:
    """The folder ``<save_dir>/<name>/version_<k>`` of one run, made with the next free number.

    Args:
        save_dir: Folder of all runs, usually ``logs``.
        name: Name of the experiment.

    Raises:
        ConfigError: If no folder can be made there.
    """

    def __init__(self, save_dir: str | Path, name: str) -> None:
        self.name = name
        parent = Path(save_dir) / name
        try:
            self._made = [path for path in (parent, *parent.parents) if not path.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            self.version, self.path = _claim(parent)
        except OSError as error:
            reason = f"no folder can be made here ({error.strerror}); give one that can be written"
            raise ConfigError("run.save_dir", str(save_dir), reason) from error

    def set_status(self, status: Status) -> None:
        """Writes the status file."""
        write_text(self.path / "status", f"{status}\n")

    def discard(self) -> None:
        """Removes the folder of a run that was refused before it measured anything."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self._made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _claim(parent: Path) -> tuple[int, Path]:
    taken = [
        int(number) for path in parent.glob("version_*") if (number := path.name[8:]).isdigit()
    ]
    version = max(taken, default=-1) + 1
    while True:
        path = parent / f"version_{version}"
        try:
            path.mkdir()
        except FileExistsError:  # another process was faster
            version += 1
        else:
            return version, path
