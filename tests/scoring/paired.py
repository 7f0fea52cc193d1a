"""Paired differences of documents, as the tests of intervals and of p-values share them."""

from __future__ import annotations

import numpy as np


def documents(units: int, rows: int = 1, seed: int = 0, effect: float = 0.1):
    """Differences [rows, units] whose ratio to tokens [units] is ``effect``, skewed noise."""
    rng = np.random.default_rng(seed)
    t = rng.integers(20, 400, units)
    noise = rng.exponential(size=(rows, units)) - 1.0
    return effect * t + noise * np.sqrt(t), t
