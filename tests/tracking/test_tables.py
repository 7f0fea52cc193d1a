"""Parquet files of statistics, read back by pyarrow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from harness.probes import Moments
from harness.tracking import tables
from harness.tracking.tables import ACTIVATION_KEYS, WEIGHT_KEYS, MomentsTable

KEYS = (3, "original", "model.layers.1", "residual", 1, "prefill", "rest")
# 0, 0, 0, 2.
MOMENTS = Moments(4, 2.0, 4.0, 8.0, 16.0, 2.0, 1, 2, 5)
FIGURES: dict[str, Any] = {
    "count": 4,
    "max_abs": 2.0,
    "mean": 0.5,
    "rms": 1.0,
    "kurtosis": pytest.approx((21 / 16) / (3 / 4) ** 2, rel=1e-12),
    "outlier_share": 0.25,
    "sigma_share": 0.5,
    "massive": 5,
}


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "activations.parquet"
    table = MomentsTable(path, ACTIVATION_KEYS)
    outside = (4, "zeroed", "model.norm", "model.norm", None, "decode", "rest")
    table.add(KEYS, MOMENTS)
    table.add(outside, MOMENTS)
    assert not path.exists()
    table.close()
    rows = parquet.read_table(path).to_pylist()
    assert rows == [
        dict(zip(ACTIVATION_KEYS, keys, strict=True)) | FIGURES for keys in (KEYS, outside)
    ]


def test_columns_and_types(tmp_path: Path) -> None:
    figures = [
        ("count", pyarrow.int64()),
        ("max_abs", pyarrow.float64()),
        ("mean", pyarrow.float64()),
        ("rms", pyarrow.float64()),
        ("kurtosis", pyarrow.float64()),
        ("outlier_share", pyarrow.float64()),
        ("sigma_share", pyarrow.float64()),
        ("massive", pyarrow.int64()),
    ]
    step, layer = ("step", pyarrow.int64()), ("layer", pyarrow.int32())
    words = {
        name: (name, pyarrow.string()) for name in ("variant", "site", "kind", "phase", "part")
    }
    activations = [step, *(words[n] for n in ("variant", "site", "kind")), layer]
    activations += [words["phase"], words["part"]]
    weights = [step, ("parameter", pyarrow.string()), words["kind"], layer]
    for keys, row, expected in (
        (ACTIVATION_KEYS, KEYS, activations),
        (WEIGHT_KEYS, (3, "model.norm.weight", "model.norm.weight", None), weights),
    ):
        path = tmp_path / f"{len(keys)}.parquet"
        table = MomentsTable(path, keys)
        table.add(row, MOMENTS)
        table.close()
        assert parquet.read_schema(path).equals(pyarrow.schema([*expected, *figures]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_null(tmp_path: Path, value: float) -> None:
    path = tmp_path / "weights.parquet"
    table = MomentsTable(path, WEIGHT_KEYS)
    table.add((0, "a", "a", None), Moments(9, value, value, value, value, value, 1, 2, 3))
    table.add((1, "b", "b", None), Moments(9, 9.0, 9.0, 9.0, 9.0, 1.0))
    table.close()
    file = parquet.read_table(path)
    broken, equal = file.to_pylist()
    nulls = {name for name, value in broken.items() if value is None}
    # Infinity lies beyond any threshold, but what is no number lies nowhere.
    known = {"step", "parameter", "kind", "count", *(["outlier_share"] * (value == math.inf))}
    assert nulls == broken.keys() - known
    assert broken["count"] == 9
    assert broken["outlier_share"] == (1 / 9 if value == math.inf else None)
    # Of equal values nothing but the kurtosis is unknown.
    assert {name for name, value in equal.items() if value is None} == {"layer", "kurtosis"}
    assert file["kurtosis"].null_count == 2


def test_no_values_at_all(tmp_path: Path) -> None:
    table = MomentsTable(tmp_path / "a.parquet", WEIGHT_KEYS)
    table.add((0, "a", "a", None), Moments())
    table.close()
    (row,) = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    figures = {name: row[name] for name in FIGURES}
    assert figures == dict.fromkeys(FIGURES) | {"count": 0, "max_abs": 0.0, "massive": 0}


def test_no_file_without_rows(tmp_path: Path) -> None:
    table = MomentsTable(tmp_path / "activations.parquet", ACTIVATION_KEYS)
    table.close()
    table.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_are_written_a_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_FLUSHED_AT", 4)
    path = tmp_path / "activations.parquet"
    table = MomentsTable(path, ACTIVATION_KEYS)
    for step in range(10):
        table.add((step, *KEYS[1:]), Moments(step + 1, 1.0))
        assert len(table._rows) < 4
    table.close()
    table.close()
    file = parquet.ParquetFile(path)
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [4, 4, 2]
    rows = file.read().to_pylist()
    assert [row["step"] for row in rows] == list(range(10))
    assert [row["count"] for row in rows] == list(range(1, 11))


def test_a_group_of_nulls_among_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_FLUSHED_AT", 2)
    path = tmp_path / "weights.parquet"
    table = MomentsTable(path, WEIGHT_KEYS)
    broken = Moments(1, math.nan, math.nan, math.nan, math.nan, math.nan)
    for moments, layer in ((broken, None), (broken, None), (MOMENTS, 1), (MOMENTS, 2)):
        table.add((0, "a", "a", layer), moments)
    table.close()
    file = parquet.read_table(path)
    assert file["rms"].to_pylist() == [None, None, 1.0, 1.0]
    assert file["layer"].to_pylist() == [None, None, 1, 2]


def steps_of(path: Path) -> list[int]:
    return [int(step) for step in parquet.read_table(path)["step"].to_pylist()]


def test_a_training_goes_on_before_what_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "activations.parquet"
    for first, last in ((0, 6), (4, 8), (8, 9)):
        table = MomentsTable(path, ACTIVATION_KEYS)
        table.cut(first)
        for step in range(first, last):
            table.add((step, *KEYS[1:]), Moments(last, 1.0))
        table.close()
    assert steps_of(path) == list(range(9))
    assert parquet.read_table(path)["count"].to_pylist() == [6] * 4 + [8] * 4 + [9]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("whole", range(4))
@pytest.mark.parametrize("more", [0, 1, 20, 200])
def test_what_a_killed_training_has_flushed_is_there(tmp_path: Path, whole: int, more: int) -> None:
    path, growing = tmp_path / "activations.parquet", tmp_path / ".activations.parquet.growing"
    killed = MomentsTable(path, ACTIVATION_KEYS)
    sizes = [0]
    for step in range(3):
        killed.add((step, *KEYS[1:]), MOMENTS)
        killed.flush()
        sizes.append(growing.stat().st_size)
    killed._file.close()
    assert not path.exists()
    growing.write_bytes(growing.read_bytes()[: sizes[whole] + more])  # the next half written
    # A second one was killed while it wrote anew what the first has left.
    (tmp_path / ".activations.parquet.new").write_bytes(b"something")
    table = MomentsTable(path, ACTIVATION_KEYS)
    table.cut(3)
    table.add((3, *KEYS[1:]), MOMENTS)
    table.close()
    assert steps_of(path) == [*range(whole), 3]
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_completed_training_has_is_there_while_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_FLUSHED_AT", 2)
    path = tmp_path / "activations.parquet"
    table = MomentsTable(path, ACTIVATION_KEYS)
    for step in range(9):
        table.add((step, *KEYS[1:]), MOMENTS)
    table.close()

    class Killed(BaseException):
        pass

    def killed(self: Path, to: Path) -> None:
        raise Killed

    copying = MomentsTable(path, ACTIVATION_KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            copying.cut(5)
    copying._file.close()
    table = MomentsTable(path, ACTIVATION_KEYS)
    table.cut(7)
    table.close()
    assert steps_of(path) == list(range(7))
    assert list(tmp_path.iterdir()) == [path]


def test_rows_of_many_checkpoints_are_few_groups(tmp_path: Path) -> None:
    path = tmp_path / "activations.parquet"
    table = MomentsTable(path, ACTIVATION_KEYS)
    for step in range(9):
        table.add((step, *KEYS[1:]), MOMENTS)
        table.flush()
    table.close()
    assert steps_of(path) == list(range(9))
    assert parquet.ParquetFile(path).num_row_groups == 1
