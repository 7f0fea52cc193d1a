"""The two loops over rows of logits that scoring on the CPU needs, compiled.

Each reads a row once, where tensor operations pass over memory three times for the sums and some
twenty times for the divergence, with what they leave in between.

Legend: n positions, V entries of the vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Sums that are kept side by side, so that the processor can add to many at a time in the order that
# is written. Reordered, as it would have to be with one sum, two subtractions from a logit become
# one of their sum, which a large peak rounds. They are in fp64: in fp32, what many unlikely tokens
# add up to would vanish beside a likely one.
_PARTS = 1024

_FASTMATH = {"contract", "nsz"}
_compiled = njit(nogil=True, fastmath=_FASTMATH)
_inlined = njit(nogil=True, fastmath=_FASTMATH, forceinline=True)

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LOG2_E, _LN_2 = np.float32(math.log2(math.e)), np.float32(math.log(2))
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(k)) for k in range(2, 8))

# Below -87.68 n is -127, which makes a scale of 0: so little has no normal number in fp32.
_LEAST = np.float32(-88)
_INFINITE = np.float32(np.inf)

_MANTISSA, _BIAS = np.int32(23), np.int32(127)


@_inlined
def _exponential(x: Any) -> tuple[Any, Any, Any]:
    """exp(x) for x up to 88 as scale * (1 + r + rest), so that exp(x) - 1 - x can be exact.

    With x = n ln 2 + r and |r| <= ln(2) / 2: scale is 2^n, and rest is exp(r) - 1 - r from its
    Taylor series, whose next term is below 6e-9. The standard library's would be called for one
    value after the other; this is done for many at a time. Of NaN, r and rest are NaN, and the
    scale is of no account.
    """
    x = _LEAST if x < _LEAST else x  # and not `max`: what is not a number has to stay so
    n = np.floor(x * _LOG2_E + _HALF)
    r = x - n * _LN_2
    scale = np.int32((np.int32(n) + _BIAS) << _MANTISSA).view(np.float32)
    rest = r * r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7)))))
    return scale, r, rest


@_compiled
def exponential_sums(
    logits: NDArray[np.float32], peak: NDArray[np.float32], sums: NDArray[np.float32]
) -> None:
    """Sums of exp(logit - peak) over the vocabulary.

    Args:
        logits: Logits [n, V].
        peak: The largest of each row [n].
        sums: Where the sums go [n].
    """
    parts = np.empty(_PARTS)
    for i in range(len(logits)):
        largest = peak[i]
        parts[:] = 0
        for start in range(0, logits.shape[1], _PARTS):
            block = logits[i, start : start + _PARTS]
            for j in range(block.size):
                scale, r, rest = _exponential(block[j] - largest)
                parts[j] += scale * (_ONE + r + rest)
        sums[i] = parts.sum()


@_compiled
def divergences(
    p_logits: NDArray[np.float32],
    p_peak: NDArray[np.float32],
    p_log_sum: NDArray[np.float32],
    q_logits: NDArray[np.float32],
    q_peak: NDArray[np.float32],
    q_log_sum: NDArray[np.float32],
    kl: NDArray[np.float32],
) -> None:
    """Sums of p (log p - log q) - p + q over the vocabulary, see ``tokens.token_kl``.

    Args:
        p_logits: The original's logits [n, V].
        p_peak: What is taken from them first [n].
        p_log_sum: What is taken from them then, to make log-probabilities of them [n].
        q_logits: The variant's logits [n, V].
        q_peak: As ``p_peak``.
        q_log_sum: As ``p_log_sum``.
        kl: Where the sums go [n].
    """
    parts = np.empty(_PARTS)
    for i in range(len(p_logits)):
        p_first, p_then, q_first, q_then = p_peak[i], p_log_sum[i], q_peak[i], q_log_sum[i]
        parts[:] = 0
        for start in range(0, p_logits.shape[1], _PARTS):
            p_block = p_logits[i, start : start + _PARTS]
            q_block = q_logits[i, start : start + _PARTS]
            for j in range(p_block.size):
                log_p = (p_block[j] - p_first) - p_then
                log_q = (q_block[j] - q_first) - q_then
                d = log_q - log_p
                scale, r, rest = _exponential(log_p)
                p = scale * (_ONE + r + rest)
                scale, r, rest = _exponential(log_q)
                q = scale * (_ONE + r + rest)
                scale, r, rest = _exponential(min(d, _ONE))
                near = p * (scale * rest + ((scale - _ONE) + scale * r - d))
                # Beyond, nothing cancels, and exp(d) may have no number in fp32.
                term = near if d <= _ONE else q - p * (_ONE + d)
                # Here d may be infinite or, for -inf twice, not a number; the term's limit is q.
                term = q if p == _ZERO else term
                parts[j] += _INFINITE if d == -_INFINITE else term
        kl[i] = parts.sum()
