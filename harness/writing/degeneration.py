"""Whether generated text repeats itself: counts per continuation, and figures that pool them.

A continuation is the list of token ids that a model added to a prompt, without the prompt, the
end-of-sequence token and padding. It may be empty. Figures are functions of a matrix of counts with
one column per continuation, so that many resamples of the same continuations cost one call.

Legend: P continuations, C = 9 counts of each. An ellipsis stands for axes of resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LONGEST = 4
"""n-grams are counted for n = 1 to this."""

LOOP_REPEATS = 3
"""A loop goes through its cycle at least this many times."""

LOOP_TOKENS = 12
"""A loop is at least this many tokens long: three dots are none."""

# Rows of the matrix of counts: the n-grams, the different ones among them, whether it loops.
_GRAMS = range(LONGEST)
_UNIQUE = range(LONGEST, 2 * LONGEST)
_LOOPS = 2 * LONGEST

Repetition = tuple[int, ...]
"""The C counts of one continuation."""

Counts = npt.NDArray[np.int64]
"""Those of several, [C, ..., P]."""

_Array = npt.NDArray[np.float64]


def repetition(ids: Sequence[int]) -> Repetition:
    """Counts the n-grams of a continuation.

    Args:
        ids: Token ids of the continuation.

    Returns:
        Its n-grams for n = 1 to 4, how many of each are different, and whether it ends in a loop.
    """
    shifted = [ids[n:] for n in range(LONGEST)]
    # The shortest of the shifted copies ends the n-grams, so none is longer than the text.
    unique = (len(set(zip(*shifted[:n], strict=False))) for n in range(1, LONGEST + 1))
    return (*map(len, shifted), *unique, ends_in_loop(ids))


def ends_in_loop(ids: Sequence[int]) -> bool:
    """Whether the end of a continuation repeats one cycle.

    There is a k >= 1 such that each of the last L = max(3 k, 12) tokens, but for the first k of
    them, is the token k before it. The end is then one cycle of k tokens, at least three times over
    (the oldest turn may be cut where 12 is no multiple of k). What is shorter than 12 tokens does
    not loop. The definition is ours. A cycle costs one comparison unless the last token fits it.

    Args:
        ids: Token ids of the continuation.
    """
    for cycle in range(1, len(ids) // LOOP_REPEATS + 1):
        span = max(LOOP_REPEATS * cycle, LOOP_TOKENS)
        if span > len(ids):
            return False
        if ids[-1] == ids[-1 - cycle] and ids[cycle - span :] == ids[-span:-cycle]:
            return True
    return False


def counts_of(records: Iterable[Repetition]) -> Counts:
    """Lays records side by side.

    Args:
        records: P records, one per continuation.

    Returns:
        Matrix of counts, int64 [C, P]: n-grams for n = 1 to 4, different ones, whether it loops.
    """
    counts = np.array(list(records), dtype=np.int64).reshape(-1, _LOOPS + 1)
    return np.ascontiguousarray(counts.T)


def seq_rep_4(counts: Counts) -> _Array:
    """Share of 4-grams that repeat an earlier one, averaged over continuations.

    The seq-rep-4 of Welleck et al. 2019 (*Neural text generation with unlikelihood training*,
    arXiv 1908.04319): the mean of 1 - unique / total. Continuations without a 4-gram are left out.

    Args:
        counts: [C, ..., P].

    Returns:
        0 to 1, [...]; NaN where no continuation has a 4-gram.
    """
    total, unique = counts[_GRAMS[-1]], counts[_UNIQUE[-1]]
    return _ratio(((total - unique) / np.maximum(total, 1)).sum(-1), (total > 0).sum(-1))


def distinct_2(counts: Counts) -> _Array:
    """Different bigrams per token: those of each continuation, summed, over all tokens.

    Li et al. 2016 (*A diversity-promoting objective function for neural conversation models*,
    arXiv 1510.03055) scale the number of different bigrams by the number of generated tokens. They
    do not say whether a bigram in two texts counts twice. Here it does, since repetition within a
    text is what is measured: counted over the whole set, the figure would fall with the number
    of prompts, and a resample, which holds prompts twice, would be biased downwards.

    Args:
        counts: [C, ..., P].

    Returns:
        0 to 1, [...]; NaN where there is no token.
    """
    return _ratio(counts[_UNIQUE[1]].sum(-1), counts[_GRAMS[0]].sum(-1))


def diversity(counts: Counts) -> _Array:
    """Product of 1 - rep-n over n = 2, 3, 4, each rep-n pooled over continuations.

    As in Su et al. 2022 (*A contrastive framework for neural text generation*, arXiv 2202.06417):
    1 - rep-n is the sum of the continuations' different n-grams over the sum of their n-grams.
    Their code drops the last n-gram of each text and rounds; this does not.

    Args:
        counts: [C, ..., P].

    Returns:
        0 to 1, [...]; NaN where no continuation has a 4-gram.
    """
    sums = counts.sum(-1)
    kept = [_ratio(sums[_UNIQUE[n]], sums[_GRAMS[n]]) for n in range(1, LONGEST)]
    product: _Array = np.prod(kept, axis=0)
    return product


def loop_rate(counts: Counts) -> _Array:
    """Share of continuations that end in a loop; see ``ends_in_loop``.

    Args:
        counts: [C, ..., P].

    Returns:
        0 to 1, [...]; NaN where there is no continuation.
    """
    loops = counts[_LOOPS]
    return _ratio(loops.sum(-1), np.full(loops.shape[:-1], loops.shape[-1]))


FIGURES: dict[str, Callable[[Counts], _Array]] = {
    figure.__name__: figure for figure in (seq_rep_4, distinct_2, diversity, loop_rate)
}
"""The figures by name, in the order in which they are reported."""


def degeneration(records: Iterable[Repetition]) -> dict[str, float | None]:
    """Returns all figures of some continuations, by name; None where one is not defined."""
    counts = counts_of(records)
    figures = {name: float(figure(counts)) for name, figure in FIGURES.items()}
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> _Array:
    """The quotient, NaN where there is nothing to divide by."""
    quotient: _Array = part / np.where(whole > 0, whole, np.nan)
    return quotient
