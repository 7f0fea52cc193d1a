"""documents.parquet against sums made by hand."""

from __future__ import annotations

from pathlib import Path

from pyarrow import parquet

from harness.data import Unit
from harness.report import save_documents
from harness.scoring import Tally, WindowRow


def test_words_and_bytes_of_what_was_scored_in_part_are_not_known(tmp_path: Path) -> None:
    tallies = {"original": Tally([WindowRow(0, 0, 3, 1.5, 0.0, agree=0)])}
    save_documents(tmp_path / "a.parquet", tallies, [Unit("a.txt", 5, 3, 20, 0)], ["original"])
    (row,) = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert (row["tokens"], row["words"], row["bytes"]) == (3, None, None)


def test_windows_add_up_to_documents(tmp_path: Path) -> None:
    units = [Unit("a.txt", 5, 3, 20, 0), Unit("b.txt", 2, None, None, 1)]
    # As they were scored: the windows of the first document are neither together nor in order.
    original = [(2, 0, 2, 0.5, 0.0), (1, 1, 2, 4.0, 0.0), (0, 0, 3, 1.5, 0.0)]
    zeroed = [(2, 0, 2, 1.0, 0.25), (1, 1, 2, 8.0, 1.0), (0, 0, 3, 2.0, 0.5)]
    tallies = {
        name: Tally([WindowRow(*row, agree=0) for row in rows])
        for name, rows in (("original", original), ("zeroed", zeroed), ("left out", zeroed))
    }
    save_documents(tmp_path / "documents.parquet", tallies, units, ["zeroed", "original"])
    table = parquet.read_table(tmp_path / "documents.parquet")
    assert [list(row.values()) for row in table.to_pylist()] == [
        ["zeroed", "a.txt", 3.0, 0.75, 5, 3, 20],
        ["zeroed", "b.txt", 8.0, 1.0, 2, None, None],
        ["original", "a.txt", 2.0, 0.0, 5, 3, 20],
        ["original", "b.txt", 4.0, 0.0, 2, None, None],
    ]
    assert [f"{field.name} {field.type}" for field in table.schema] == [
        *("variant string", "document string", "nll_sum double", "kl_sum double"),
        *("tokens int64", "words int64", "bytes int64"),
    ]
