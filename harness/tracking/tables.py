"""``activations.parquet`` and ``weights.parquet``, which grow while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evaluation.step import StepResult
from harness.probes import Moments, Site
from harness.tracking.run_folder import RunFolder
from harness.tracking.writer import Writer

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetWriter

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
    """Rows of moments under keys, written a row group at a time; no file where there are no rows.

    They grow in a file beside, which takes the place of the other when it is completed.

    Args:
        path: The file.
        keys: Columns that say what the moments are of, with their types.
    """

    def __init__(self, path: Path, keys: Mapping[str, str]) -> None:
        self._path = path
        self._growing = path.with_name(f".{path.name}.growing")
        self._types = {**keys, **STATISTICS}
        self._rows: list[tuple[Any, ...]] = []
        self._writer: ParquetWriter | None = None

    def add(self, keys: tuple[Any, ...], moments: Moments) -> None:
        """Adds a row; what is not a number becomes null."""
        self._rows.append((*keys, *_statistics(moments)))
        if len(self._rows) >= _FLUSHED_AT:
            self._flush()

    def close(self) -> None:
        """Writes what is left and completes the file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._growing.replace(self._path)

    def _flush(self) -> None:
        if not self._rows:
            return
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([(k, pyarrow.type_for_alias(t)) for k, t in self._types.items()])
        columns = dict(zip(self._types, zip(*self._rows, strict=True), strict=True))
        table = pyarrow.table({k: list(values) for k, values in columns.items()}, schema=schema)
        if self._writer is None:
            # A file that was completed cannot grow: what it holds is written again.
            before = parquet.read_table(self._path) if self._path.exists() else None
            self._writer = parquet.ParquetWriter(self._growing, schema, compression="zstd")
            if before is not None:
                self._writer.write_table(before)
        self._writer.write_table(table)
        self._rows.clear()


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

    def close(self) -> None:
        """Completes both files."""
        self._activations.close()
        self._weights.close()
