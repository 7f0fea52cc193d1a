"""``variants.csv``: every figure of every variant, for pandas and for spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.base.files import replacing
from harness.results.schema import Results


def save_variants(path: Path, results: Results) -> None:
    """Writes a row for the original, for each variant and for each control.

    Columns are the keys of a variant in ``results.json``, joined by dots, of which intervals have
    two: ``versus_original.delta_nll_ci95.low`` and ``.high``. What is not there is left empty.

    Args:
        path: The file.
        results: What was measured.
    """
    rows = [
        {"variant": name, "is_control": control, **dict(_flat(dataclasses.asdict(record)))}
        for records, control in ((results.variants, False), (results.controls, True))
        for name, record in records.items()
    ]
    columns = {column: None for row in rows for column in row}
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


def _flat(record: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, tuple):
            yield from zip((f"{prefix}{key}.low", f"{prefix}{key}.high"), value, strict=True)
        elif value is not None:
            yield f"{prefix}{key}", value
