"""TensorBoard files as TensorBoard reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.tracking import RunLogger
from harness.tracking.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, "mine")


@pytest.fixture
def logger(folder: RunFolder) -> RunLogger:
    made = RunLogger()
    made.attach(folder)
    return made


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_a_folder_per_variant_with_the_same_tags(folder: RunFolder, logger: RunLogger) -> None:
    for step in (0, 7):
        for place, name in enumerate(("original", "zeroed")):
            values = {"likelihood/nll": step + place, "divergence/kl": place / 2}
            logger.scalars(name, values, step)
    logger.close()
    assert {path.name for path in folder.path.iterdir()} == {"original", "zeroed"}
    assert scalars(folder.path / "original") == {
        "likelihood/nll": [(0, 0.0), (7, 7.0)],
        "divergence/kl": [(0, 0.0), (7, 0.0)],
    }
    assert scalars(folder.path / "zeroed") == {
        "likelihood/nll": [(0, 1.0), (7, 8.0)],
        "divergence/kl": [(0, 0.5), (7, 0.5)],
    }


def test_everything_can_be_read_before_the_files_are_closed(
    folder: RunFolder, logger: RunLogger
) -> None:
    for step in range(100):
        logger.scalars("original", {"a": float(step)}, step)
    logger.finalize("success")
    assert len(scalars(folder.path / "original")["a"]) == 100
    logger.scalars("original", {"a": 2.0}, 100)
    logger.close()
    assert scalars(folder.path / "original")["a"][-2:] == [(99, 99.0), (100, 2.0)]


def test_what_lightning_logs_goes_to_the_original(folder: RunFolder, logger: RunLogger) -> None:
    logger.log_metrics({"likelihood/train_nll": 5.5, "epoch": 1}, 2)
    logger.log_hyperparams({"learning_rate": 0.1})
    logger.close()
    assert scalars(folder.path / "original") == {"likelihood/train_nll": [(2, 5.5)]}
    assert (logger.name, logger.version, logger.save_dir) == ("mine", 0, str(folder.path))


def test_no_values_make_no_file(folder: RunFolder, logger: RunLogger) -> None:
    logger.scalars("original", {}, 0)
    logger.log_metrics({"epoch": 1}, 0)
    assert not any(folder.path.iterdir())


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    logger = RunLogger()
    logger.scalars("original", {"a": 1.0}, 0)
    logger.log_metrics({"a": 1.0}, 0)
    logger.finalize("success")
    logger.close()
    assert (logger.name, logger.version, logger.save_dir) == (None, None, None)
    assert not any(tmp_path.iterdir())
