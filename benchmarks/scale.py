"""``python -m benchmarks.scale``: how time and memory grow with what is asked for, and why.

Runs of the command line, on random weights and random words. Each process has one thread, and its
seconds are those of CPU: what it takes on a core that nothing else uses, however busy this machine
is. Linux alone: they are read from /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.chart import Column, draw
from benchmarks.watch import STAGES, Taken, watch

TAKES = "about five minutes on two cores"

_MODEL = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 4096,
    "max_position_embeddings": 512,
}
_IDS_PER_BATCH = 1024
_WORDS = ("the", "model", "of", "a", "language", "has", "some", "words", "that", "are", "in", "it")
_WORDS_PER_DOCUMENT = 180
_IDS = 256  # of a document, at most
_FLOORS = 2  # the original once more, and with some weights rounded otherwise
_FLOOR_BATCHES = 8


@dataclass(frozen=True)
class Asked:
    """What is asked of a run."""

    documents: int = 32
    variants: int = 1
    controls: int = 0
    window: int = 128
    processes: int = 1

    @property
    def subjects(self) -> int:
        """How many models are scored: the original, variants, and controls of each."""
        return 1 + self.variants * (1 + self.controls)

    @property
    def work(self) -> float:
        """Batches of 1,024 ids of one model that each process runs, with the floors of noise."""
        batches = self.documents * _IDS / _IDS_PER_BATCH
        return (batches * self.subjects + _FLOORS * min(batches, _FLOOR_BATCHES)) / self.processes


@dataclass(frozen=True)
class Axis:
    """One of what can be asked for, from little to much of it.

    Attributes:
        name: The attribute of `Asked`.
        points: Its values, of which the first is the measure of the ideal.
        memory: What memory should be proportional to.
    """

    name: str
    points: tuple[int, ...]
    memory: Callable[[Asked], float] = lambda asked: 1

    def asked(self) -> list[Asked]:
        """What is asked at each point."""
        return [replace(Asked(), **{self.name: point}) for point in self.points]


CORES = len(os.sched_getaffinity(0))
AXES = (
    Axis("documents", (16, 32, 64)),
    Axis("variants", (1, 3, 7)),
    Axis("controls", (0, 2, 6)),
    Axis("window", (64, 128, 256)),  # the same tokens in fewer rows
    Axis("processes", (1, 2, 4), lambda asked: asked.processes),  # each has the model
)


def main() -> None:
    """Measures every point, prints what was found, and draws it where asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--chart", type=Path, help="file of the chart, such as docs/scale.svg")
    chart = parser.parse_args().chart
    taken: dict[Asked, Taken] = {}
    with tempfile.TemporaryDirectory() as folder:
        for axis in AXES:
            for asked in axis.asked():
                if asked not in taken:
                    print(f"measuring {asked}", file=sys.stderr, flush=True)
                    taken[asked] = _measure(asked, Path(folder))
    print(f"seconds of CPU of each process, by stage; clock: of the whole run, on {CORES} cores\n")
    for axis in AXES:
        print(table(axis, taken))
    if chart is not None:
        draw([_column(axis, taken) for axis in AXES], chart)


def _measure(asked: Asked, folder: Path) -> Taken:
    text, config = folder / "texts.jsonl", folder / "config.json"
    drawn = random.Random(0)
    texts = (" ".join(drawn.choices(_WORDS, k=_WORDS_PER_DOCUMENT)) for _ in range(asked.documents))
    text.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    variants: dict[str, object] = {
        f"sigma-{number}": _variant(4.0 + number / 10, asked.controls)
        for number in range(asked.variants)
    }
    model = {
        "architecture": _MODEL,
        "tokenizer": "demo",
        "generation": None,
        "variants": variants | {"zeroed": None, "sigma5": None},
    }
    data = {
        "dataset": str(text),
        "max_length": asked.window,
        "batch_size": _IDS_PER_BATCH // asked.window,
        "prompts": None,
    }
    trainer = {"accelerator": "cpu", "devices": asked.processes}
    run = {"save_dir": str(folder / "logs")}
    config.write_text(json.dumps({"model": model, "data": data, "trainer": trainer, "run": run}))
    command = [sys.executable, "-m", "harness", "validate", "-c", str(config)]
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "NUMBA_NUM_THREADS": "1"}
    return watch(command, asked.processes, os.environ | threads)


def _variant(sigmas: float, controls: int) -> dict[str, object]:
    criterion = {"class_path": "SigmaThreshold", "init_args": {"sigmas": sigmas}}
    return {"criterion": criterion, "scope": {"matrices_only": True}, "controls": controls}


def _column(axis: Axis, taken: Mapping[Asked, Taken]) -> Column:
    runs = [taken[asked] for asked in axis.asked()]
    return Column(axis.name, axis.points, runs, ideal_time(axis, taken), ideal_memory(axis, taken))


def cost(taken: Mapping[Asked, Taken]) -> tuple[float, float]:
    """Seconds of scoring by least squares over the documents: of a batch of one model, and once."""
    runs = AXES[0].asked()
    scoring = [taken[asked].seconds("scoring") for asked in runs]
    batch, once = np.polyfit([asked.work for asked in runs], scoring, 1)
    return float(batch), float(once)


def ideal_time(axis: Axis, taken: Mapping[Asked, Taken]) -> list[float]:
    """Seconds of each process, if every batch of every model took as long as any other."""
    first, *_ = points = axis.asked()
    batch, once = cost(taken)
    rest = taken[first].seconds() - taken[first].seconds("scoring")
    return [rest + once + batch * each.work for each in points]


def ideal_memory(axis: Axis, taken: Mapping[Asked, Taken]) -> list[float]:
    """Bytes, if only what has to be there more than once were there more than once."""
    first, *_ = points = axis.asked()
    return [taken[first].memory * axis.memory(each) / axis.memory(first) for each in points]


def table(axis: Axis, taken: Mapping[Asked, Taken]) -> str:
    """An axis in figures, and what limits it."""
    head = [f"{axis.name:9}", " seconds", " ideal", *(f"{name:>8}" for name in STAGES)]
    lines = [" ".join([*head, "    MB", " ideal", "  clock"])]
    rows = zip(axis.asked(), ideal_time(axis, taken), ideal_memory(axis, taken), strict=True)
    for point, (asked, time, memory) in zip(axis.points, rows, strict=True):
        run = taken[asked]
        row = [f"{point:<9}", f"{run.seconds():8.1f}", f"{time:6.1f}"]
        row += [f"{run.seconds(name):8.1f}" for name in STAGES]
        row += [f"{run.memory / 1e6:6.0f}", f"{memory / 1e6:6.0f}", f"{run.clock:7.1f}"]
        lines.append(" ".join(row))
    return "\n".join([*lines, *(f"  {line}" for line in limits(axis, taken)), ""])


def limits(axis: Axis, taken: Mapping[Asked, Taken]) -> list[str]:
    """What keeps an axis from its ideal, as measured."""
    asked, (batch, once) = axis.asked(), cost(taken)
    runs = [taken[each] for each in asked]
    scoring = [run.seconds("scoring") for run in runs]
    rest = [run.seconds() - run.seconds("scoring") for run in runs]
    if axis.name == "documents":
        return [
            f"scoring takes {batch:.2f} s for 1,024 tokens of one model, and {once:.1f} s once in "
            f"each process, in which loops are compiled; the rest of a run {rest[-1]:.1f} s"
        ]
    if axis.name == "window":
        ids = _IDS * asked[0].documents * asked[0].subjects
        row = 1e3 * (scoring[0] - scoring[-1]) / (ids / axis.points[0] - ids / axis.points[-1])
        return [
            f"the same tokens in {axis.points[-1] // axis.points[0]} times as many rows: "
            f"{scoring[0]:.1f} s of scoring, not {scoring[-1]:.1f}, or {row:+.1f} ms a row"
        ]
    if axis.name == "processes":
        alone = once + rest[-1]
        return [
            f"scoring of each goes from {scoring[0]:.1f} to {scoring[-1]:.1f} s; what each does "
            f"for itself is {alone:.1f} s of {runs[-1].seconds():.1f}: {rest[-1]:.1f} s of start, "
            f"loading and results, and {once:.1f} s once in scoring"
        ]
    further = (scoring[-1] - scoring[0]) / (asked[-1].work - asked[0].work)
    return [
        f"1,024 tokens of a further model take {further:.2f} s, of those above {batch:.2f} s; the "
        f"rest of a run goes from {rest[0]:.1f} to {rest[-1]:.1f} s"
    ]


if __name__ == "__main__":
    main()
