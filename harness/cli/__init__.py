"""The command line: what it says at once, what it refuses, and the runs that it starts.

Only `commands`, and what it needs beside, imports the heavy libraries, once the rest found nothing
to refuse.
"""

from harness.cli.front import main

__all__ = ["main"]
