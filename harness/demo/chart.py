"""Draws how outliers emerged in a training: ``python -m harness.demo.chart RUN PICTURE``.

Reads the tables that the statistics callback leaves in the folder of a ``fit`` run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import auto_cli

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pyarrow import Table

Curve = tuple[Sequence[int], Sequence[float]]


def draw(run: Path, picture: Path) -> None:
    """Draws largest activations, their kurtosis, and outlying weights over the steps.

    Args:
        run: Folder of a run of ``fit``.
        picture: The PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), dpi=110, layout="constrained")
    largest, kurtosis, weights = figure.subplots(1, 3)
    for part, label in (("first", "first position"), ("rest", "other positions")):
        values = _activations(run, "max_abs", part)
        largest.plot(*values, label=label, linewidth=1.8)
        kurtosis.plot(*_activations(run, "kurtosis", part), label=label, linewidth=1.8)
    weights.plot(*_weights(run), linewidth=1.8, color="tab:green")
    _finish(largest, "largest |activation|\nin the residual stream", log=True)
    _finish(kurtosis, "largest kurtosis\nof a block's output", log=True)
    _finish(weights, "weights beyond six standard\ndeviations of their matrix", log=False)
    largest.legend(frameon=False, fontsize=8)
    figure.savefig(picture)


def _finish(axes: Axes, title: str, *, log: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    axes.set_title(title, fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _activations(run: Path, statistic: str, part: str) -> Curve:
    """The largest of a statistic over the decoder blocks, by step."""
    from pyarrow import parquet

    wanted = [("kind", "=", "residual"), ("part", "=", part)]
    return _by_step(
        parquet.read_table(run / "activations.parquet", filters=wanted), statistic, "max"
    )


def _weights(run: Path) -> Curve:
    """Entries of the matrices beyond the threshold in standard deviations, by step."""
    import pyarrow.compute as pc
    from pyarrow import parquet

    matrices = ~pc.match_substring(pc.field("kind"), "norm")
    table = parquet.read_table(run / "weights.parquet", filters=matrices)
    beyond = pc.round(pc.multiply(table["sigma_share"], table["count"]))
    return _by_step(table.append_column("beyond", beyond), "beyond", "sum")


def _by_step(table: Table, column: str, how: str) -> Curve:
    grouped = table.group_by("step").aggregate([(column, how)]).sort_by("step")
    return grouped["step"].to_pylist(), grouped[f"{column}_{how}"].to_pylist()


if __name__ == "__main__":
    auto_cli(draw)
