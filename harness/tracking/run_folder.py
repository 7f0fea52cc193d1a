"""A run's folder under ``logs/``: its place, its number, its status, and whose it is."""

from __future__ import annotations

import errno
import re
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness.base.files import write_text
from harness.errors import ConfigError

# What file systems say that have no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

# A file of an attempt and of a process, also one that was sent where disks are not shared.
_STEPS = re.compile(r"(\d+)-\d+(?:\.sent)?\.steps", re.ASCII)

Status = Literal["running", "interrupted", "complete"]


class RunFolder:
    """The folder of one run.

    Args:
        path: The folder, which exists: ``<save_dir>/<name>/version_<k>``.
        made: What was made for it, itself and folders above.
    """

    def __init__(self, path: Path, made: Sequence[Path] = ()) -> None:
        self.path = path
        self.name = path.parent.name
        number = path.name.removeprefix("version_")
        self.version = int(number) if number.isdecimal() else 0
        self._made = made
        self._lock: weakref.finalize[..., RunFolder] | None = None

    @classmethod
    def new(cls, save_dir: str | Path, name: str, least: int = 0) -> RunFolder:
        """Makes a folder with the next free number.

        Args:
            save_dir: Folder of all runs, usually ``logs``.
            name: Name of the experiment.
            least: The least number that it may have.

        Raises:
            ConfigError: If no folder can be made there.
        """
        parent = Path(save_dir) / name
        try:
            made = [path for path in (parent, *parent.parents) if not path.exists()]
            parent.mkdir(parents=True, exist_ok=True)
            path = _claim(parent, least)
            folder = cls(path, [path, *made])
            folder.journal.mkdir()
        except OSError as error:
            reason = f"no folder can be made here ({error.strerror}); give one that can be written"
            raise ConfigError("run.save_dir", str(save_dir), reason) from error
        folder.take()
        return folder

    @property
    def journal(self) -> Path:
        """Where the steps lie."""
        return self.path / "journal"

    def attempts(self) -> dict[Path, int]:
        """The files in which processes have kept their steps, each with the number of its attempt.

        What else lies in the journal is not the run's.
        """
        found = {path: _STEPS.fullmatch(path.name) for path in sorted(self.journal.glob("*.steps"))}
        return {path: int(name[1]) for path, name in found.items() if name and path.is_file()}

    def take(self) -> None:
        """Makes sure that no other run writes into the folder, until it is released.

        Raises:
            ConfigError: If one does, or nothing can be written there.
        """
        try:
            import fcntl
        except ImportError:  # where there are no such locks
            return
        if self._lock is not None and self._lock.alive:
            return
        try:
            self.journal.mkdir(exist_ok=True)
            lock = (self.journal / "lock").open("a")
            self._lock = weakref.finalize(self, lock.close)  # or else with the process
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            reason = "another process is writing into this folder; wait for it, or end it"
            raise ConfigError("resume", str(self.path), reason) from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            reason = f"cannot be written to ({error.strerror})"
            raise ConfigError("resume", str(self.path), reason) from error

    def release(self) -> None:
        """Lets others write into the folder."""
        if self._lock is not None:
            self._lock()

    def tidy(self) -> None:
        """Removes what is made anew of the steps of a resumed run, and what a killed one left."""
        for path in self.path.rglob("*"):
            parts = path.relative_to(self.path).parts
            left = parts[-1].startswith(".") or "tfevents" in parts[-1]
            if path.is_file() and (left or parts[-1] == "activations.parquet"):
                path.unlink()

    def set_status(self, status: Status) -> None:
        """Writes the status file."""
        path, text = self.path / "status", f"{status}\n"
        try:
            write_text(path, text)
        except OSError:
            # On a full disk there may be room for it where the last one stands.
            with path.open("r+") as file:
                file.write(text)
                file.truncate()

    def discard(self) -> None:
        """Removes the folder of a run that was refused before it measured anything.

        One that is resumed stays as it is.
        """
        if self.path in self._made:
            shutil.rmtree(self.path, ignore_errors=True)
            for parent in self._made[1:]:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()


def next_version(save_dir: str | Path, name: str) -> int:
    """The number that the next run would have, as far as this machine's disks tell.

    Args:
        save_dir: Folder of all runs.
        name: Name of the experiment.
    """
    found = (path.name[8:] for path in (Path(save_dir) / name).glob("version_*"))
    return max((int(number) for number in found if number.isdecimal()), default=-1) + 1


def _claim(parent: Path, least: int) -> Path:
    version = max(least, next_version(parent.parent, parent.name))
    while True:
        path = parent / f"version_{version}"
        try:
            path.mkdir()
        except FileExistsError:  # another process was faster
            version += 1
        else:
            return path
