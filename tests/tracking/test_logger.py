"""TensorBoard files as TensorBoard reads them."""

from __future__ import annotations

import math
import resource
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util

from harness.evaluation.design import Design
from harness.results.schema import ModelRecord
from harness.tracking import RunLogger, events
from harness.tracking.run_folder import RunFolder

DESIGN = Design(ModelRecord("mine", None, "Llama", 1, "float32"))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.new(tmp_path, "mine")


@pytest.fixture
def logger(folder: RunFolder) -> RunLogger:
    made = RunLogger()
    made.open(folder)
    return made


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_a_folder_per_variant_with_the_same_tags(folder: RunFolder, logger: RunLogger) -> None:
    for step in (0, 7):
        for place, name in enumerate(("original", "zeroed")):
            values = {"likelihood/nll": step + place, "divergence/kl": place / 2}
            logger.scalars(name, values, step)
    logger.close()
    assert {path.name for path in folder.path.iterdir()} == {"journal", "original", "zeroed"}
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


def test_a_thousand_folders_need_no_thread_and_few_open_files(
    folder: RunFolder, logger: RunLogger
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    threads = threading.active_count()
    names = ["original", *(f"zeroed-control-{k}" for k in range(999))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        for step in range(2):
            for place, name in enumerate(names):
                logger.scalars(name, {"a": place}, step)
            logger.finalize("success")
        assert threading.active_count() == threads
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    logger.close()
    assert {path.name for path in folder.path.iterdir()} == {*names, "journal"}
    for place in (0, 1, 500, 999):
        assert scalars(folder.path / names[place]) == {"a": [(0, place), (1, place)]}


def test_what_waits_is_written_after_a_while_and_when_it_is_much(
    folder: RunFolder, logger: RunLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written() -> int:
        return len(scalars(folder.path / "original").get("a", []))

    for step in range(5):
        logger.scalars("original", {"a": 1.0}, step)
    assert not (folder.path / "original").exists()
    monkeypatch.setattr(events, "_SECONDS", 0)
    logger.scalars("original", {"a": 1.0}, 5)
    assert written() == 5  # the sixth may still get further tags
    monkeypatch.undo()
    logger.scalars("original", {"a": 1.0}, 6)
    assert written() == 5
    monkeypatch.setattr(events, "_FULL", 1)
    logger.scalars("original", {"a": 1.0}, 7)
    assert written() == 7


def test_a_file_that_a_killed_process_left_in_the_midst_of_an_event_can_be_read(
    folder: RunFolder, logger: RunLogger
) -> None:
    for step in range(5):
        logger.scalars("original", {"a": float(step)}, step)
    logger.close()
    (path,) = (folder.path / "original").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    assert scalars(folder.path / "original") == {"a": [(k, float(k)) for k in range(4)]}


def test_what_lightning_logs_goes_to_the_original(folder: RunFolder, logger: RunLogger) -> None:
    logger.log_metrics({"likelihood/train_nll": 5.5, "epoch": 1}, 2)
    logger.log_hyperparams({"learning_rate": 0.1})
    logger.close()
    assert scalars(folder.path / "original") == {"likelihood/train_nll": [(2, 5.5)]}
    assert (logger.name, logger.version, logger.save_dir) == ("mine", 0, str(folder.path))


def test_no_values_make_no_file(folder: RunFolder, logger: RunLogger) -> None:
    logger.scalars("original", {}, 0)
    logger.log_metrics({"epoch": 1}, 0)
    assert [path.name for path in folder.path.iterdir()] == ["journal"]


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


# -- summaries, rows and texts -----------------------------------------------------------------


def summaries(folder: Path) -> list[Any]:
    """Events as they stand in the file, each with its summary, without those that say nothing."""
    (path,) = folder.iterdir()
    events = [event for event in EventFileLoader(str(path)).Load() if event.HasField("summary")]
    return [event for event in events if event.summary.value]


def session(folder: Path) -> dict[str, HParamsPluginData]:
    """What the file tells the HParams page, by the tag of its parts."""
    found = {}
    for event in summaries(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                content = value.metadata.plugin_data.content
                found[value.tag] = HParamsPluginData.FromString(content)
    return found


def test_what_is_given_for_one_step_is_one_summary(folder: RunFolder, logger: RunLogger) -> None:
    for step in range(3):
        for name in ("original", "zeroed"):
            logger.scalars(name, {"a/x": step}, step)
        for name in ("original", "zeroed"):
            logger.scalars(name, {"b/y": 10 * step, "a/z": math.nan}, step)
    logger.close()
    for name in ("original", "zeroed"):
        written = summaries(folder.path / name)
        assert [event.step for event in written] == [0, 1, 2]
        assert [[value.tag for value in event.summary.value] for event in written] == [
            ["a/x", "b/y", "a/z"]
        ] * 3
        found = scalars(folder.path / name)
        assert found["b/y"] == [(0, 0.0), (1, 10.0), (2, 20.0)]
        assert all(math.isnan(value) for _, value in found["a/z"])


def test_steps_go_on_after_another_measurement(folder: RunFolder, logger: RunLogger) -> None:
    for measurement in range(3):
        logger.begin(DESIGN)
        for step in (0, 1, 5):
            logger.scalars("original", {"a": measurement}, step)
        logger.close()  # as the end of a call does
    assert scalars_of_all(folder.path / "original")["a"] == [
        *((step, 0.0) for step in (0, 1, 5)),
        *((step, 1.0) for step in (6, 7, 11)),
        *((step, 2.0) for step in (12, 13, 17)),
    ]


def scalars_of_all(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalars of several files in one folder, in the order of the files."""
    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: int(path.name.rpartition(".")[2])):
        for tag, more in scalars(path).items():
            found.setdefault(tag, []).extend(more)
    return found


def test_begin_changes_nothing_where_nothing_was_written(
    folder: RunFolder, logger: RunLogger
) -> None:
    logger.begin(DESIGN)
    logger.begin(DESIGN)
    logger.scalars("original", {"a": 1.0}, 2)
    logger.close()
    assert scalars(folder.path / "original") == {"a": [(2, 1.0)]}


def test_a_row_of_the_hparams_page(folder: RunFolder, logger: RunLogger) -> None:
    for name, entries in (("original", 0), ("zeroed", 12)):
        logger.scalars(name, {"likelihood/nll": 1.0}, 4)
        params: dict[str, str | int] = {"variant": name, "entries": entries}
        logger.row(name, params, {"final/nll": entries + 0.5, "final/max_abs": math.nan})
    logger.close()
    for name, entries in (("original", 0), ("zeroed", 12)):
        found = session(folder.path / name)
        start = found["_hparams_/session_start_info"].session_start_info
        assert start.hparams["variant"].string_value == name
        assert start.hparams["entries"].number_value == entries
        experiment = found["_hparams_/experiment"].experiment
        assert {info.name.tag for info in experiment.metric_infos} == {
            "final/nll",
            "final/max_abs",
        }
        assert {info.name for info in experiment.hparam_infos} == {"variant", "entries"}
        assert "_hparams_/session_end_info" in found
        values = scalars(folder.path / name)
        # The figures of all variants stand at one step, after the last batch.
        assert values["final/nll"] == [(5, entries + 0.5)]
        ((step, value),) = values["final/max_abs"]
        assert (step, math.isnan(value)) == (5, True)


def test_a_second_measurement_goes_on_after_the_rows(folder: RunFolder, logger: RunLogger) -> None:
    for _ in range(2):
        logger.begin(DESIGN)
        for name in ("original", "zeroed", "other"):
            for step in range(3):
                logger.scalars(name, {"likelihood/nll": 1.0}, step)
        for name in ("original", "zeroed", "other"):
            logger.row(name, {"variant": name}, {"final/nll": 1.0})
        logger.finalize("success")
    logger.close()
    for name in ("original", "zeroed", "other"):
        found = scalars(folder.path / name)
        assert [step for step, _ in found["likelihood/nll"]] == [0, 1, 2, 3, 4, 5]
        assert [step for step, _ in found["final/nll"]] == [3, 6]


def test_a_text_is_kept_as_it_is(folder: RunFolder, logger: RunLogger) -> None:
    markup = "<table><tr><td>a *b* &lt;script&gt; é</td></tr></table>"
    logger.scalars("original", {"a": 1.0}, 6)
    logger.text("original", "generations/side_by_side", markup)
    logger.close()
    found = EventAccumulator(str(folder.path / "original"))
    found.Reload()
    (tag,) = found.Tags()["tensors"]
    assert tag.startswith("generations/side_by_side")
    (event,) = found.Tensors(tag)
    assert event.step == 7
    assert tensor_util.make_ndarray(event.tensor_proto).item().decode() == markup


def test_rows_and_texts_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logger = RunLogger()
    logger.row("original", {"variant": "original"}, {"a": 1.0})
    logger.text("original", "a", "b")
    logger.close()
    assert not any(tmp_path.iterdir())
