"""The packages that a run was made with, the same in all of its processes."""

from __future__ import annotations

import platform
from importlib.metadata import version

from harness import __version__
from harness.base.processes import Processes
from harness.errors import ConfigError

_LIBRARIES = ("torch", "transformers", "lightning", "datasets")


def versions() -> dict[str, str]:
    """Versions of the harness, of Python and of the libraries that decide what a model gives."""
    return {
        "harness": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def check_packages(processes: Processes) -> None:
    """Refuses processes that do not run the same program.

    Args:
        processes: Those of the run; each has to call this.

    Raises:
        ConfigError: Naming the first package that differs.
    """
    first, *others = processes.meet(versions())
    for rank, packages in enumerate(others, 1):
        for name, has in packages.items():
            if has != first[name]:
                reason = f"process {rank} has {has}, the first {first[name]}; install the same"
                raise ConfigError("package", name, reason)
