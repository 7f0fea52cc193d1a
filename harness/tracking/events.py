"""Files of events, as TensorBoard reads them, without a thread or an open file for each."""

from __future__ import annotations

import itertools
import os
import socket
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

_SECONDS = 30
"""So old may events be that a killed process takes with it."""

_FULL = 2**20
"""Bytes of events in memory, of all files together, that are written at once."""

_numbers = itertools.count()


class EventFiles:
    """Appends events to one file in each of many folders, which is opened for each piece it grows.

    Args:
        path: The folder that holds the folders.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, Path] = {}
        self._waiting: dict[str, BytesIO] = {}
        self._bytes = 0
        self._written = time.monotonic()
        self._first: int | None = None

    def cut(self, first: int) -> None:
        """Has TensorBoard pass over what other files of the folders hold from a step on.

        Args:
            first: The step.
        """
        self._first = first

    def add(self, folder: str, summary: Summary, step: int) -> None:
        """Adds a summary.

        Args:
            folder: Name of the folder, which is made with the first.
            summary: What it holds.
            step: Where it stands.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        if folder not in self._files:
            self._files[folder] = self._path / folder / _file_name()
            # What it has to begin with, or TensorBoard takes it for one of a former version.
            self._add(folder, Event(wall_time=time.time(), file_version="brain.Event:2"))
            if self._first is not None:
                begun = SessionLog(status=SessionLog.START)
                self._add(folder, Event(wall_time=time.time(), step=self._first, session_log=begun))
        self._add(folder, Event(wall_time=time.time(), summary=summary, step=step))
        if self._bytes >= _FULL or time.monotonic() - self._written >= _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes all that was added."""
        for folder, waiting in self._waiting.items():
            path = self._files[folder]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(waiting.getbuffer())
        self._waiting.clear()
        self._bytes = 0
        self._written = time.monotonic()

    def _add(self, folder: str, event: Event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        waiting = self._waiting.setdefault(folder, BytesIO())
        before = waiting.tell()
        RecordWriter(waiting).write(event.SerializeToString())
        self._bytes += waiting.tell() - before


def _file_name() -> str:
    """Names of files of one folder are in the order in which they were begun."""
    begun = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
    return f"events.out.tfevents.{begun}"
