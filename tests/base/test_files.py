"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.base.files import replacing, write_text


def test_a_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "status"
    write_text(path, "running\n")
    write_text(path, "complete – ✓\n")
    assert path.read_text(encoding="utf-8") == "complete – ✓\n"
    assert [file.name for file in tmp_path.iterdir()] == ["status"]


def test_a_file_is_what_it_was_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "whole")

    def fail() -> None:
        with replacing(path) as beside:
            beside.write_text("ha")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert path.read_text() == "whole"
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_what_stands_there_is_whole_while_the_next_is_written(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    write_text(path, "before")
    with replacing(path) as beside:
        beside.write_text("half of")
        assert path.read_text() == "before"
