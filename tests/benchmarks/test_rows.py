"""Every row of the benchmarks runs, with a model of a few weights, which says nothing."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from benchmarks import __main__ as table
from benchmarks import lm_eval, memory
from benchmarks.shapes import SHAPES, Bench, Shape, llama

TINY = llama(64, 96, 2, 4, 2, vocab_size=5000, tie_word_embeddings=True)
FEW = {
    "decode": {"pairs": 1, "tokens": 3},
    "observed_decode": {"pairs": 1, "tokens": 3},
    "start_to_finish": {"pairs": 1, "windows": 4},
}
# Of whole processes, which take long to start.
SLOW = {"memory", "startup", "lm_eval"}


@pytest.fixture
def bench() -> Bench:
    return Bench(Shape("tiny", TINY, 2, 32), "cpu")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(table.ROWS.keys() - SLOW))
def test_a_row_measures(bench: Bench, name: str) -> None:
    assert 0 < table.ROWS[name].ratio(bench, **FEW.get(name, {"pairs": 1})) < 1e6


def test_every_row_says_what_it_claims_and_for_what() -> None:
    shapes = {device: {shape.name for shape in known} for device, known in SHAPES.items()}
    for row in table.ROWS.values():
        assert row.CLAIM
        assert row.BOUNDS
        for device, bounds in row.BOUNDS.items():
            assert bounds.keys() <= shapes[device]
            assert all(bound > 0 for bound in bounds.values())


def test_memory_on_a_gpu_is_that_of_the_device(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: None)
    peaks = iter([30, 20])
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: next(peaks))
    monkeypatch.setattr(bench, "device", "cuda")
    monkeypatch.setattr(Bench, "model", Bench(bench.shape, "cpu").model)
    monkeypatch.setattr(Bench, "batch", Bench(bench.shape, "cpu").batch)
    assert memory.ratio(bench) == 1.5


def test_a_row_whose_library_is_missing_is_left_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_eval, "find_spec", lambda name: None)
    assert lm_eval.ratio(bench) is None


@pytest.mark.parametrize(("measured", "status"), [(1.2, 0), (1.31, 1), (None, 0)])
def test_the_table_says_what_holds(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    measured: float | None,
    status: int,
) -> None:
    row = ModuleType("row")
    vars(row).update(
        CLAIM="a row", BOUNDS={"cpu": {"135M": 1.3}}, NEEDS="more", ratio=lambda bench: measured
    )
    monkeypatch.setattr(table, "ROWS", {"row": row})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "row"])
    assert table.main() == status
    device, _, line = capsys.readouterr().out.splitlines()
    assert "torch" in device
    assert line.startswith("a row, 135M ")
    said = {1.2: "holds", 1.31: "BROKEN", None: "left out: more"}[measured]
    assert said in line


def test_a_row_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "speed"])
    with pytest.raises(SystemExit) as refused:
        table.main()
    assert refused.value.code == 2
