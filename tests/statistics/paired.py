"""Paired differences of documents, as the tests of intervals and of p-values share them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def documents(units: int, rows: int = 1, seed: int = 0, effect: float = 0.1):
    """Differences [rows, units] whose ratio to tokens [units] is ``effect``, skewed noise."""
    rng = np.random.default_rng(seed)
    t = rng.integers(20, 400, units)
    noise = rng.exponential(size=(rows, units)) - 1.0
    return effect * t + noise * np.sqrt(t), t


NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy": lambda rng, shape: rng.standard_t(3, size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "mildly skewed": lambda rng, shape: rng.lognormal(0, 0.5, shape) - np.exp(0.125),
    "skewed": lambda rng, shape: rng.lognormal(0, 1, shape) - np.exp(0.5),
}
"""What documents differ by per token, mean 0."""


def sizes(rng: np.random.Generator, units: int, spread: float) -> np.ndarray:
    """Tokens per document: 200, times a lognormal of this sigma."""
    return np.maximum(1, np.round(200 * rng.lognormal(0, spread, units)))


def selections(
    rng: np.random.Generator,
    count: int,
    units: int,
    between: float,
    first: tuple[float, float] = (0.0, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
    """What random selections change, [count, units], and tokens, [units].

    Documents differ in what any selection does to them, selections in what they do to any document
    (``between`` times what chance leaves of the rest in the mean of all documents), and the rest is
    of this selection in this document alone. The mean of all that could be drawn is 0.3.

    Args:
        rng: Random numbers.
        count: Selections.
        units: Documents.
        between: How much selections differ.
        first: What the first one does beyond the mean of all, and how many times as unevenly; where
            it does something, it is no random one.
    """
    t = sizes(rng, units, 0.5)
    of_document = 2 * rng.normal(size=units)
    of_selection = rng.normal(size=(count, 1)) * between / np.sqrt(units)
    rest = rng.normal(size=(count, units))
    excess, uneven = first
    if excess:
        of_selection[0] = excess
    rest[0] *= uneven
    return t * (0.3 + of_document + of_selection + rest), t
