"""``activations.parquet`` and ``weights.parquet``, which grow while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evaluation.step import StepResult
from harness.probes import Moments, Site
from harness.tracking.run_folder import RunFolder
from harness.tracking.writer import Writer

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Table
    from pyarrow.ipc import RecordBatchStreamWriter

# Rows in memory, and what they take once more where they are written, are bounded by this.
_FLUSHED_AT = 10_000

STATISTICS = {
    "count": "int64",
    "max_abs": "float64",
    "mean": "float64",
    "rms": "float64",
    "kurtosis": "float64",
    "outlier_share": "float64",
    "sigma_share": "float64",
    "massive": "int64",
}
"""Columns of moments, with their types in the file."""

ACTIVATION_KEYS = {
    "step": "int64",
    "variant": "string",
    "site": "string",
    "kind": "string",
    "layer": "int32",
    "phase": "string",
    "part": "string",
}
WEIGHT_KEYS = {"step": "int64", "parameter": "string", "kind": "string", "layer": "int32"}


class MomentsTable:
    """Rows of moments under keys; no file where there are no rows.

    They grow in a file beside, of which everything up to its end can be read at any time, and
    become Parquet when the table is completed.

    Args:
        path: The file.
        keys: Columns that say what the moments are of, with their types; `step` is one of them.
    """

    def __init__(self, path: Path, keys: Mapping[str, str]) -> None:
        self._path = path
        self._growing = path.with_name(f".{path.name}.growing")
        self._types = {**keys, **STATISTICS}
        self._rows: list[tuple[Any, ...]] = []
        self._writer: RecordBatchStreamWriter | None = None

    def add(self, keys: tuple[Any, ...], moments: Moments) -> None:
        """Adds a row; what is not a number becomes null."""
        self._rows.append((*keys, *_statistics(moments)))
        if len(self._rows) >= _FLUSHED_AT:
            self.flush()

    def cut(self, first: int) -> None:
        """Keeps, of what an earlier attempt has written, what comes before a step.

        Args:
            first: The step.
        """
        from pyarrow import compute

        growing = self._growing
        before = _grown(growing) if growing.exists() else _completed(self._path)
        kept = (batch.filter(compute.less(batch["step"], first)) for batch in before)
        if (batch := next(kept, None)) is not None:
            self._begin(chain([batch], kept))

    def flush(self) -> None:
        """Writes the rows that are in memory."""
        if not self._rows:
            return
        import pyarrow

        writer = self._writer or self._begin(_completed(self._path))  # that cannot grow
        columns = [list(column) for column in zip(*self._rows, strict=True)]
        writer.write_batch(pyarrow.record_batch(columns, schema=self._schema))
        self._file.flush()
        self._rows.clear()

    def close(self) -> None:
        """Writes what is left and completes the file."""
        self.flush()
        if self._writer is None:
            return
        from pyarrow import parquet

        self._writer.close()
        self._file.close()
        self._writer = None
        done = self._path.with_name(f".{self._path.name}.done")
        with parquet.ParquetWriter(done, self._schema, compression="zstd") as writer:
            for rows in _large(_grown(self._growing)):
                writer.write_table(rows)
        done.replace(self._path)
        self._growing.unlink()

    def _begin(self, before: Iterable[RecordBatch]) -> RecordBatchStreamWriter:
        """Begins the file that grows with what is there already; it is whole from the first on."""
        import pyarrow

        types = ((name, pyarrow.type_for_alias(alias)) for name, alias in self._types.items())
        self._schema = pyarrow.schema(types)
        new = self._path.with_name(f".{self._path.name}.new")
        self._file = new.open("wb")
        options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
        writer = pyarrow.ipc.new_stream(self._file, self._schema, options=options)
        for batch in before:
            writer.write_batch(batch)
        self._file.flush()
        new.replace(self._growing)
        self._writer = writer
        return writer


def _completed(path: Path) -> Iterator[RecordBatch]:
    """What a Parquet file holds; nothing where there is none."""
    if path.exists():
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(_FLUSHED_AT)


def _grown(path: Path) -> Iterator[RecordBatch]:
    """What a file holds that has grown, up to where a killed process has left off."""
    import pyarrow

    with path.open("rb") as file, suppress(pyarrow.ArrowInvalid, OSError):
        yield from pyarrow.ipc.open_stream(file)


def _large(batches: Iterable[RecordBatch]) -> Iterator[Table]:
    """The same rows in fewer pieces: one is written at each checkpoint, however few they are."""
    import pyarrow

    some: list[RecordBatch] = []
    rows = 0
    for batch in batches:
        some.append(batch)
        rows += batch.num_rows
        if rows >= _FLUSHED_AT:
            yield pyarrow.Table.from_batches(some)
            some, rows = [], 0
    if some:
        yield pyarrow.Table.from_batches(some)


def _statistics(moments: Moments) -> tuple[float | int | None, ...]:
    return (
        moments.count,
        *(
            value if math.isfinite(value) else None
            for value in (
                moments.max_abs,
                moments.mean,
                moments.rms,
                moments.kurtosis,
                moments.share_beyond,
                moments.share_beyond_sigmas,
            )
        ),
        moments.massive if math.isfinite(moments.max_abs) else None,
    )


class FlowTables(Writer):
    """Writes a row for each step, model, site, phase and part, and for each step and parameter."""

    def open(self, folder: RunFolder) -> None:
        """Names the folder that is written to."""
        self._activations = MomentsTable(folder.path / "activations.parquet", ACTIVATION_KEYS)
        self._weights = MomentsTable(folder.path / "weights.parquet", WEIGHT_KEYS)

    def step(self, step: StepResult) -> None:
        """Writes what was observed of each model."""
        place = self.place(step.number)
        for name, outcome in step.outcomes.items():
            for (site, phase, part), moments in outcome.moments.items():
                keys = (place, name, site.name, site.kind, site.layer, phase, part)
                self._activations.add(keys, moments)

    def weights(self, number: int, weights: Mapping[Site, Moments]) -> None:
        """Writes what the parameters are like."""
        for site, moments in weights.items():
            self._weights.add((number, site.name, site.kind, site.layer), moments)

    def cut(self, first: int) -> None:
        """Drops the rows of a step and those after it."""
        self._activations.cut(first)
        self._weights.cut(first)

    def flush(self) -> None:
        """Writes the rows that are in memory."""
        self._activations.flush()
        self._weights.flush()

    def close(self) -> None:
        """Completes both files."""
        self._activations.close()
        self._weights.close()
