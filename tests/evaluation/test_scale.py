"""The end of a run over many documents and variants: its time and its memory."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import torch

from harness.data import Corpus, Unit
from harness.evaluation.design import Design, Subject
from harness.evaluation.measurement import Measurement
from harness.evaluation.step import Outcome, StepResult
from harness.evaluation.summary import summarise
from harness.outliers import Patch
from harness.probes import Flow, Moments, Site, Where
from harness.results.schema import DataRecord, ModelRecord, ObserverRecord, RunRecord
from harness.scoring import LogHistogram, Tally
from harness.scoring.rows import ROW

RECORD = RunRecord("mine", 0, "validate", 42, 1, "32-true", 1.0, False)
NAMES = ["original", *(f"variant{k}" for k in range(20))]
FLOW = Flow.of(
    {
        Where(Site(f"layers.{layer}", "residual", layer), "prefill", part): Moments(9, 0.1, 0.2)
        for layer in range(12)
        for part in ("first", "rest")
    }
)


def design(documents: int) -> Design:
    units = [Unit(f"text {k}", 50, 9, 50, k) for k in range(documents)]
    record = DataRecord(
        *("texts", "all", documents, documents, 1, None, None, 9, 9, "document", "none", "rolling")
    )
    return Design(
        ModelRecord("tiny", None, "Tiny", 1, "float32"),
        tuple(Subject(name, Patch()) for name in NAMES[1:]),
        Corpus([], units, rows=None, plan=[], record=record),  # type: ignore[arg-type]
        observed=ObserverRecord(6.0, 6.0, 100.0, 1000.0, 1),
    )


def measured(documents: int, batch_size: int, names: list[str] = NAMES) -> Measurement:
    rng = np.random.default_rng(0)
    measurement = Measurement()
    histogram = LogHistogram()
    histogram.add(torch.logspace(-8, 0, 100))
    for number, windows in enumerate(rng.permutation(documents).reshape(-1, batch_size)):
        outcomes = {}
        for name in names:
            rows = np.zeros(batch_size, ROW)
            rows["window"] = rows["unit"] = windows
            rows["tokens"] = 50
            rows["nll"] = rng.gamma(9, 20, batch_size)
            rows["kl"] = rng.gamma(1, 1, batch_size)
            outcomes[name] = Outcome(Tally(rows, histogram), moments=FLOW)
        measurement.add(StepResult(number, outcomes))
    return measurement


@pytest.mark.slow
def test_twice_the_documents_take_about_twice_the_time() -> None:
    def seconds(documents: int) -> float:
        measurement, how = measured(documents, 50), design(documents)
        took = []
        for _ in range(2):
            start = time.process_time()
            summarise(measurement.totals(), how, RECORD)
            took.append(time.process_time() - start)
        measurement.close()
        return min(took)

    seconds(100)  # what is compiled and imported
    once, twice = seconds(10_000), seconds(20_000)
    assert twice / once < 3


def test_totals_take_little_more_memory_than_the_rows_they_hold() -> None:
    documents = 20_000
    measurement = measured(documents, 20, NAMES[:3])
    tracemalloc.start()
    try:
        totals = measurement.totals()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    measurement.close()
    rows = 3 * documents * ROW.itemsize
    assert sum(len(outcome.tally.rows) for outcome in totals.scored.values()) == 3 * documents
    assert kept < 1.3 * rows
    assert peak < 1.6 * rows
