"""The processes of a run: how many there are, which of them this is, and how they meet."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

from harness.errors import ConfigError

T = TypeVar("T")

LONGEST = timedelta(minutes=30)
"""How long processes wait for each other where nothing tells how long it may take."""

# Bytes that one process sends at a time.
_CHUNK = 2**26
# How long one that has failed waits for the others to hear of it.
_FAREWELL = timedelta(seconds=30)


class LostError(RuntimeError):
    """Another process of the run has ended, or hangs."""


class EndedElsewhere(Exception):  # noqa: N818  (the error is the other process's)
    """Another process of the run has failed, and said why.

    Attributes:
        status: The exit status that its failure asks for.
    """

    def __init__(self, rank: int, line: str, status: int) -> None:
        super().__init__(f"process {rank}: {line}")
        self.status = status


@dataclass(frozen=True)
class _Failure:
    """What a process says that has failed."""

    line: str
    status: int


class Processes:
    """The processes of a run, which meet after every step; a single one meets nobody.

    They meet beside what the devices do, through a group of their own, so that no device is waited
    for.

    Args:
        rank: Which of them this is.
        count: How many there are.
        group: The group of `torch.distributed` in which they meet.
        store: What tells who has come to a meeting.
    """

    def __init__(self, rank: int = 0, count: int = 1, group: Any = None, store: Any = None) -> None:
        self.rank = rank
        self.count = count
        self._group = group
        self._store = store
        self._meetings = 0

    @classmethod
    def joined(cls) -> Processes:
        """All processes that `torch.distributed` knows of; each has to call this."""
        import torch.distributed as dist
        from torch.distributed import distributed_c10d as c10d

        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return cls()
        return _joined(c10d._get_default_store())

    @property
    def is_first(self) -> bool:
        """Whether it is this one that speaks, and writes the folder."""
        return self.rank == 0

    def meet(self, said: T, limit: timedelta = LONGEST) -> list[T]:
        """Waits for all processes, and returns what each has to say, by rank.

        Args:
            said: What this one has to say: anything that can be pickled.
            limit: How long to wait for the others.

        Raises:
            LostError: If one does not come.
            EndedElsewhere: If one has failed.
        """
        if self.count == 1:
            return [said]
        began = time.monotonic()
        self._meetings += 1
        self._store.set(str(self.rank), str(self._meetings))
        try:
            everyone = self._gather(said, limit)
        except RuntimeError as error:
            raise LostError(self._missing(time.monotonic() - began)) from error
        for rank, each in enumerate(everyone):
            if isinstance(each, _Failure):
                raise EndedElsewhere(rank, each.line, each.status)
        return everyone

    def fail(self, line: str, status: int) -> bool:
        """Tells the others, where they meet next, that this process has failed.

        Args:
            line: Why, in a line.
            status: The exit status that this asks for.

        Returns:
            Whether all of them know.
        """
        try:
            self.meet(_Failure(line, status), _FAREWELL)
        except EndedElsewhere:
            return True
        except LostError:
            return False
        return True

    def share(self, value: T) -> T:
        """Returns what the first process has, in all of them.

        Args:
            value: What is shared; that of the others is not looked at.
        """
        shared: Any = self.meet(value if self.is_first else None)[0]
        return shared  # type: ignore[no-any-return]

    def accept(self, check: Callable[[], T]) -> T:
        """Runs what may refuse its input in every process: one that does refuses it for all.

        Args:
            check: What is run.

        Raises:
            ConfigError: If it was refused here, and this is the first or alone.
            EndedElsewhere: If another has refused it; the first is listened to first.
        """
        refusal: ConfigError | None = None
        try:
            result = check()
        except ConfigError as error:
            refusal = error
        lines = self.meet(None if refusal is None else str(refusal))
        if refusal is not None and self.is_first:
            raise refusal
        for rank, line in enumerate(lines):
            if line is not None:
                raise EndedElsewhere(rank, line, 2)
        return result

    def send(self, senders: Sequence[int], data: bytes) -> dict[int, bytes]:
        """Brings bytes of some processes to the first, a piece at a time.

        Args:
            senders: Those that send.
            data: What this one has.

        Returns:
            What each has sent, in the first; nothing in the others.
        """
        sent = {rank: bytearray() for rank in senders if self.is_first}
        data = data if self.rank in senders else b""
        for first in range(0, max(self.meet(len(data))), _CHUNK):
            import torch.distributed as dist

            pieces: list[Any] = [None] * self.count
            gathered = pieces if self.is_first else None
            dist.gather_object(data[first : first + _CHUNK], gathered, 0, self._group)
            for rank, piece in sent.items():
                piece += pieces[rank]
        return {rank: bytes(piece) for rank, piece in sent.items()}

    def _gather(self, said: Any, limit: timedelta) -> list[Any]:
        """What each process has to say, by rank."""
        import torch
        from torch._C._distributed_c10d import AllgatherOptions

        # What waits has to end by itself: a process cannot end before it.
        how = AllgatherOptions()
        how.timeout = limit
        data = torch.frombuffer(bytearray(pickle.dumps(said)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.count)]
        size = torch.tensor([len(data)])
        self._group.allgather([sizes], [size], how).wait()
        most = int(max(sizes))
        pieces = [torch.zeros(most, dtype=torch.uint8) for _ in range(self.count)]
        padded = torch.nn.functional.pad(data, (0, most - len(data)))
        self._group.allgather([pieces], [padded], how).wait()
        ends = zip(pieces, sizes, strict=True)
        return [pickle.loads(piece[: int(end)].numpy().tobytes()) for piece, end in ends]

    def _missing(self, seconds: float) -> str:
        """Which processes have not come to the present meeting."""
        others = [rank for rank in range(self.count) if rank != self.rank]
        try:
            came = [rank for rank in others if self._has_come(rank)]
        except RuntimeError:  # the first keeps the store
            came = [rank for rank in others if rank]
        gone = ", ".join(str(rank) for rank in others if rank not in came) or "another"
        return f"process {gone} of this run has ended, or hangs: no answer after {seconds:.0f} s"

    def _has_come(self, rank: int) -> bool:
        """Whether a process has come to the present meeting."""
        return self._store.check([str(rank)]) and int(self._store.get(str(rank))) >= self._meetings


@cache
def _joined(store: Any) -> Processes:
    """The processes that know each other by a store, which have one group to meet in."""
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as c10d

    group = dist.new_group(backend="gloo", timeout=LONGEST)
    meetings = c10d.PrefixStore("meetings", store)
    return Processes(dist.get_rank(), dist.get_world_size(), group, meetings)
