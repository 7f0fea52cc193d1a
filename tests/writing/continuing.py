"""Random continuations, as the tests of degeneration, of its intervals and of its metrics share."""

from __future__ import annotations

import random


def continuations(count: int, seed: int = 0, longest: int = 60) -> list[list[int]]:
    """Lists of 0 to ``longest`` ids; few different ids in some, a cycle at the end of others."""
    rng = random.Random(seed)
    texts = []
    for _ in range(count):
        vocabulary = rng.choice([1, 2, 5, 1000])
        ids = [rng.randrange(vocabulary) for _ in range(rng.randint(0, longest))]
        if rng.random() < 0.4:
            cycle = [rng.randrange(vocabulary) for _ in range(rng.randint(1, 9))]
            ids = (ids + cycle * rng.randint(1, 12))[:longest]
        texts.append(ids)
    return texts
