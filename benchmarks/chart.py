"""The chart of `benchmarks.scale`: a column for each axis, time above and memory below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.watch import Taken

_RUN, _SCORING, _IDEAL = "#1f4e79", "#c55a11", "#7f7f7f"


@dataclass(frozen=True)
class Column:
    """What was measured along an axis.

    Attributes:
        name: What there is more and more of.
        points: How much of it.
        runs: What the run took at each point.
        time: Seconds that each process should have taken.
        memory: Bytes that it should have had.
    """

    name: str
    points: Sequence[int]
    runs: Sequence[Taken]
    time: Sequence[float]
    memory: Sequence[float]


def draw(columns: Sequence[Column], path: Path) -> None:
    """Draws the chart.

    Args:
        columns: The axes.
        path: The file to write; its suffix says of what kind.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "scale", "font.size": 9}):
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        above, below = figure.subplots(2, len(columns), sharey="row")
        for column, time, memory in zip(columns, above, below, strict=True):
            points, runs = column.points, column.runs
            time.plot(points, column.time, "--", color=_IDEAL, label="run, ideal")
            time.plot(points, [run.seconds() for run in runs], "o-", color=_RUN, label="run")
            scoring = [run.seconds("scoring") for run in runs]
            time.plot(points, scoring, "o-", color=_SCORING, label="of it scoring")
            memory.plot(points, [each / 1e6 for each in column.memory], "--", color=_IDEAL)
            memory.plot(points, [run.memory / 1e6 for run in runs], "o-", color=_RUN)
            memory.set_xlabel(column.name)
            for axes in (time, memory):
                axes.set_xticks(points)
                axes.margins(x=0.12)
                axes.grid(alpha=0.25)
                axes.spines[["top", "right"]].set_visible(False)
        for row in (above, below):  # once all is drawn: axes of a row have one range
            row[0].set_ylim(bottom=0)
        above[0].set_ylabel("seconds of each process")
        below[0].set_ylabel("peak memory, MB")
        figure.legend(*above[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
