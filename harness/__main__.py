"""``python -m harness``."""

import sys

from harness.cli import main


def run() -> None:
    """Runs the command line and exits with its status."""
    sys.exit(main())


if __name__ == "__main__":
    run()
