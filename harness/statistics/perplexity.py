"""From summed log-likelihoods to the figures that are reported."""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.results.schema import Likelihood


def likelihood(
    nll: Iterable[float], tokens: int, words: int | None = None, bytes: int | None = None
) -> Likelihood:
    r"""Returns likelihood per token, per word and per byte.

    Words and bytes are those of the raw documents and perplexities are pooled, as in
    lm-evaluation-harness (``weighted_perplexity`` and ``bits_per_byte``): with L the total negative
    log-likelihood in nats, ``word_perplexity = exp(L / words)``,
    ``byte_perplexity = exp(L / bytes)`` and ``bits_per_byte = L / (bytes * ln 2)``. They compare
    models whose tokenizers differ; ``nll`` and ``perplexity`` do not.

    Args:
        nll: Negative log-likelihood in nats, one sum per window. The total is ``math.fsum``: the
            exact sum, rounded once, so the order of the windows is of no account.
        tokens: Scored tokens in these windows.
        words: Words in the documents; None where the windows do not cover the documents.
        bytes: UTF-8 bytes in the documents; None where the windows do not cover the documents.

    Returns:
        The figures; None in place of each that is not finite or has nothing to be divided by.
    """
    total = _total(nll)
    per_token, per_word, per_byte = (_per(total, n) for n in (tokens, words, bytes))
    return Likelihood(
        nll=per_token,
        perplexity=exp_or_none(per_token),
        word_perplexity=exp_or_none(per_word),
        byte_perplexity=exp_or_none(per_byte),
        bits_per_byte=None if per_byte is None else per_byte / math.log(2.0),
    )


def exp_or_none(nats: float | None) -> float | None:
    """Returns e to the power of ``nats``; None where that, or ``nats`` itself, is not finite.

    Of a mean likelihood it is a perplexity, of a difference of means the ratio of two perplexities.
    """
    if nats is None or not math.isfinite(nats):
        return None
    try:
        return math.exp(nats)
    except OverflowError:
        return None


def _total(nll: Iterable[float]) -> float | None:
    sums = list(nll)
    return math.fsum(sums) if all(map(math.isfinite, sums)) else None


def _per(total: float | None, count: int | None) -> float | None:
    return total / count if total is not None and count else None
