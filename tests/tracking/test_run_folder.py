"""Numbers of runs, two at once, and what a refused run leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tracking.run_folder import RunFolder


def test_the_next_free_number(tmp_path: Path) -> None:
    for name in ("version_2", "version_10", "version_x", "version_²", "other_99"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    folder = RunFolder.new(tmp_path, "mine")
    assert (folder.name, folder.version) == ("mine", 11)
    assert folder.path == tmp_path / "mine" / "version_11"
    assert folder.path.is_dir()
    assert RunFolder.new(tmp_path, "mine").version == 12
    assert RunFolder.new(tmp_path, "yours").version == 0
    # What another node's disk holds.
    assert RunFolder.new(tmp_path, "mine", least=5).version == 13
    assert RunFolder.new(tmp_path, "mine", least=20).version == 20


def test_a_journal_holds_what_processes_have_written(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine")
    assert folder.attempts() == {}
    for name in ("2-0.steps", "10-3.steps", "2-1.sent.steps"):
        (folder.journal / name).touch()
    for name in ("notes.steps", "1-0.steps.bak", "-1.steps", "1-.steps", "²-0.steps"):
        (folder.journal / name).touch()
    (folder.journal / "3-0.steps").mkdir()
    found = {path.name: number for path, number in folder.attempts().items()}
    assert found == {"2-0.steps": 2, "10-3.steps": 10, "2-1.sent.steps": 2}


def test_two_that_looked_at_once_get_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both look before either has made its folder.
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    assert [RunFolder.new(tmp_path, "mine").version for _ in range(2)] == [0, 1]
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"version_0", "version_1"}


def test_the_status_is_one_word(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path, "mine")
    folder.set_status("running")
    folder.set_status("complete")
    assert (folder.path / "status").read_text() == "complete\n"


def test_discarding_removes_every_folder_that_was_made(tmp_path: Path) -> None:
    folder = RunFolder.new(tmp_path / "deep" / "logs", "mine")
    (folder.path / "config.yaml").touch()
    folder.discard()
    assert not any(tmp_path.iterdir())


def test_discarding_leaves_what_was_there_before_or_came_since(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "mine").mkdir(parents=True)
    RunFolder.new(logs, "mine").discard()
    assert [path.name for path in logs.iterdir()] == ["mine"]
    first, second = RunFolder.new(logs, "new"), RunFolder.new(logs, "new")
    first.discard()
    assert [path.name for path in (logs / "new").iterdir()] == ["version_1"]
    second.discard()
    # The second did not make it, so it is not the second's to remove.
    assert (logs / "new").is_dir()
