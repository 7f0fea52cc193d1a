"""Metrics of generated text behind the interface of ``evaluate``: ours, and anyone's by name.

Importing this module imports ``evaluate``, which takes seconds: import it where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from textwrap import shorten
from typing import Any, NamedTuple

import evaluate
import numpy as np

from harness.errors import ConfigError
from harness.writing.degeneration import FIGURES, degeneration, repetition


class TextFigures(NamedTuple):
    """What a metric says of some texts.

    Attributes:
        figures: Numbers by name; empty where there was a problem.
        problem: Why there are none, in one line; None where all went well.
    """

    figures: dict[str, float]
    problem: str | None = None


class Degeneration(evaluate.Metric):  # type: ignore[misc]
    """A figure of ``harness.writing.degeneration`` as a metric of ``evaluate``.

    Predictions are continuations: lists of token ids, or strings, whose tokens then are what white
    space separates. ``compute`` gives the figure under its name, None where it is not defined.
    Nothing is written to disk unless ``keep_in_memory=False`` asks for it.

    Args:
        figure: Name of the figure.
    """

    def __init__(self, figure: str, *, keep_in_memory: bool = True, **kwargs: Any) -> None:
        self.figure = figure
        super().__init__(figure, keep_in_memory=keep_in_memory, **kwargs)

    def _build_data_dir(self) -> str:
        # The base class makes this folder even if it will put nothing there.
        folder = self._data_dir_root if self.keep_in_memory else super()._build_data_dir()
        return str(folder)

    def _info(self) -> Any:
        from datasets import Features, List, Value

        return evaluate.MetricInfo(
            description=FIGURES[self.figure].__doc__,
            citation="",
            inputs_description="predictions: continuations as lists of token ids, or as strings.",
            features=[
                Features(predictions=List(Value("int64"))),
                Features(predictions=Value("string")),
            ],
        )

    def _compute(self, predictions: Sequence[str | Sequence[int]]) -> dict[str, float | None]:
        numbers: dict[str, int] = {}
        texts = (
            [numbers.setdefault(word, len(numbers)) for word in text.split()]
            if isinstance(text, str)
            else text
            for text in predictions
        )
        return {self.figure: degeneration(map(repetition, texts))[self.figure]}


def load_metric(name: str, key: str, *, trusted: bool) -> Any:
    """Returns a metric by its name.

    A script, whether local or from the hub, is Python that runs on this machine: name only what you
    trust.

    Args:
        name: One of ``FIGURES``, the path of a script that defines an ``evaluate`` module, or the
            name of one on the Hugging Face hub (``rouge``, ``user/metric``).
        key: Configuration key that the name came from, for the error.
        trusted: Whether code of others may run; ours always may.

    Returns:
        The metric, an ``evaluate.EvaluationModule`` that keeps what it is given in memory and,
        where it draws at random, draws the same each time.

    Raises:
        ConfigError: If it may not be run or cannot be loaded, for whatever reason.
    """
    if name in FIGURES:
        return Degeneration(name, seed=0)
    if not trusted:
        reason = (
            "a metric is code of someone's that would run on this machine; read it, then allow it "
            f"by model.trust_remote_code=true. Always there: {', '.join(FIGURES)}"
        )
        raise ConfigError(key, name, reason)
    try:
        return evaluate.load(name, keep_in_memory=True, seed=0)
    except FileNotFoundError:
        reason = (
            "no such script here, and the Hugging Face hub has no metric of that name or cannot be "
            f"reached; always there: {', '.join(FIGURES)}"
        )
    except ImportError as error:
        reason = f"a Python package is missing: {_line(error)}"
        if ",'" in reason:  # evaluate takes the comma of `import a, b` for part of a name
            reason = "evaluate reads one import a line only: write `import a` and `import b`"
    except Exception as error:
        # Foreign code may raise anything.
        reason = f"its script fails or defines no metric: {_line(error)}"
    raise ConfigError(key, name, reason)


def compute_metric(
    metric: Any, texts: Sequence[str], references: Sequence[str] | None = None
) -> TextFigures:
    """Computes a metric of texts, beside references if it is one that needs them.

    Args:
        metric: A metric, as ``load_metric`` gives it.
        texts: The texts to measure.
        references: As many texts to hold them against: the original model's, for example.

    Returns:
        The metric's numbers by name: a list of numbers as its mean, what is nested under both names
        joined by an underscore, other things left out; or the problem. Numbers may be NaN.
    """
    called = getattr(metric, "figure", metric.name)
    features = metric.features
    names = list(features[0] if isinstance(features, list) else features)
    inputs: dict[str, Sequence[str]] = {}
    for name in names:
        if name == "references":
            if references is None:
                return TextFigures({}, f"{called} needs references, and there are none")
            inputs[name] = list(references)
        else:
            inputs[name] = list(texts)
    if len(inputs.keys() - {"references"}) != 1:
        return TextFigures({}, f"{called} needs {', '.join(names)}: more than texts")
    if not texts:
        return TextFigures({}, f"{called} has no texts to measure")
    try:
        return TextFigures(_numbers(metric.compute(**inputs), called))
    except Exception as error:
        # Or what it was given now would count among what it is given next.
        metric.writer = None
        return TextFigures({}, f"{called} failed: {_line(error)}")


def _numbers(value: Any, name: str, prefix: str = "") -> dict[str, float]:
    """The numbers in what a metric returned; `name` is for one that has none of its own."""
    if isinstance(value, Mapping):
        found: dict[str, float] = {}
        for key, item in value.items():
            found |= _numbers(item, f"{prefix}{key}", f"{prefix}{key}_")
        return found
    items = np.ravel(value).tolist() if isinstance(value, np.ndarray) else value
    items = list(items) if isinstance(items, list | tuple) else [items]
    if items and all(isinstance(item, Real) for item in items):
        return {name: float(np.mean(items))}
    return {}


def _line(error: Exception) -> str:
    """An error in one line of bounded length: evaluate quotes whole texts in some of its own."""
    message = shorten(str(error), 300, placeholder=" ...")
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
