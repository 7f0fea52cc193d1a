"""variants.csv, read by pandas, against results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas

from harness.report import save_variants
from harness.results.codec import to_json
from tests.report.made import make_results


def at(record: Any, column: str) -> Any:
    """What stands in results.json where a column says that it is from."""
    for part in column.split("."):
        if isinstance(record, list):
            record = record[("low", "high").index(part)]
        else:
            record = record.get(part) if record else None
    return record


def test_a_row_for_each_variant_with_the_figures_of_results_json(tmp_path: Path) -> None:
    results = make_results()
    save_variants(tmp_path / "variants.csv", results)
    table = pandas.read_csv(tmp_path / "variants.csv")
    assert list(table.variant) == ["original", "none", "sigma5", *results.controls]
    assert list(table.is_control) == [False, False, False, True, True]
    written = json.loads(to_json(results))
    records = written["variants"] | written["controls"]
    compared = 0
    for _, row in table.iterrows():
        for column in table.columns[2:]:
            expected = at(records[row.variant], column)
            assert pandas.isna(row[column]) if expected is None else row[column] == expected
            compared += expected is not None
    assert compared > 40
    row = table.set_index("variant").loc["sigma5"]
    assert row["versus_original.delta_nll_ci95.low"] == 0.0315
    assert row["edit.by_module_class.Linear"] == 1243
