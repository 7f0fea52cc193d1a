"""The schema of results.json describes itself."""

from __future__ import annotations

import dataclasses
import inspect

from harness.results import schema


def test_records_are_frozen_and_every_field_is_described() -> None:
    records = [
        record
        for record in vars(schema).values()
        if dataclasses.is_dataclass(record) and isinstance(record, type)
    ]
    assert len(records) == 14
    for record in records:
        assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
        for field in dataclasses.fields(record):
            assert f"\n    {field.name}: " in inspect.cleandoc(record.__doc__ or "")
