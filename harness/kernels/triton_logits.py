"""The loops over rows of logits that scoring on a GPU needs, in Triton: one program a row.

Logits are read in the model's own type, and what is computed of them is fp32. Each lane of a
program reads every so-many-th token of its row and keeps sums of its own, which are brought
together once.

Legend: n positions, V entries of the vocabulary.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.kernels.where import launching

LANES = 2048
"""Tokens that a program reads at a time, unless the vocabulary is smaller."""

# Rounding less often is as good in all that is computed here; said, since defaults change.
_HOW = {"num_warps": 8, "enable_fp_fusion": True}

_LOG2_E, _LN_2 = tl.constexpr(math.log2(math.e)), tl.constexpr(math.log(2))
_C2, _C3, _C4, _C5, _C6, _C7 = (tl.constexpr(1 / math.factorial(k)) for k in range(2, 8))


def predictions(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The peak of each row, the logarithm of the sum of exp(logit - peak), and the likeliest token.

    Args:
        logits: fp32, fp16 or bf16, the tokens of a row side by side [n, V].

    Returns:
        fp32 [n], fp32 [n], and int64 [n], which of equal logits is the first; of a row that holds
        what is not a number it is any.
    """
    peak = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    log_sum, top = torch.empty_like(peak), torch.empty_like(peak, dtype=torch.int64)
    if len(logits):
        columns = logits.shape[1]
        found = (peak, log_sum, top)
        with launching(logits.device):
            _predict[(len(logits),)](
                logits, logits.stride(0), *found, columns, _lanes(columns), **_HOW
            )
    return peak, log_sum, top


def divergences(
    p_logits: Tensor,
    p_peak: Tensor,
    p_log_sum: Tensor,
    q_logits: Tensor,
    q_peak: Tensor,
    q_log_sum: Tensor,
) -> Tensor:
    """Sums of p (log p - log q) - p + q over the vocabulary, fp32 [n]; see ``tokens.token_kl``.

    Args:
        p_logits: The original's logits, the tokens of a row side by side [n, V].
        p_peak: What is taken from them first, fp32 [n].
        p_log_sum: What is taken from them then, to make log-probabilities of them, fp32 [n].
        q_logits: The variant's logits, as ``p_logits``.
        q_peak: As ``p_peak``.
        q_log_sum: As ``p_log_sum``.
    """
    kl = torch.empty_like(p_peak)
    if len(kl):
        columns = p_logits.shape[1]
        p, q = (p_logits, p_logits.stride(0)), (q_logits, q_logits.stride(0))
        sums = (p_peak, p_log_sum, q_peak, q_log_sum)
        with launching(kl.device):
            _diverge[(len(kl),)](*p, *q, *sums, kl, columns, _lanes(columns), **_HOW)
    return kl


def _lanes(columns: int) -> int:
    return min(LANES, int(triton.next_power_of_2(columns)))


@triton.jit
def _predict(
    logits,
    stride,
    peaks,
    log_sums,
    tops,
    columns,
    LANES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    lanes = tl.arange(0, LANES)
    peak = tl.full([LANES], float("-inf"), tl.float32)
    total = tl.zeros([LANES], tl.float32)
    top = lanes
    for start in range(0, columns, LANES):
        token = start + lanes
        x = tl.load(logits + token, mask=token < columns, other=float("-inf")).to(tl.float32)
        higher = x > peak
        # One exponential serves both: it brings the sum to a new peak, or the logit to the old one.
        # Where both are infinite their distance is not a number, and should be none.
        less = tl.where(x == peak, 1.0, tl.exp(-tl.abs(x - peak)))
        # Without the peak's own, beside which many small ones would vanish.
        total = tl.where(higher, (total + 1.0) * less, total + less)
        top = tl.where(higher, token, top)
        peak = tl.where(higher, x, peak)
    # A lane's sum is not a number only where one of its logits is not.
    broken = tl.max((total != total).to(tl.int32), 0) > 0
    highest = tl.max(peak, 0)
    log_sum = tl.log(tl.sum((1.0 + total) * tl.exp(peak - highest), 0))
    tl.store(peaks + row, tl.where(broken, float("nan"), highest))
    tl.store(log_sums + row, tl.where(broken, float("nan"), log_sum))
    tl.store(tops + row, tl.min(tl.where(peak == highest, top, columns), 0).to(tl.int64))


@triton.jit
def _exponential(x):
    """exp(x) for x up to 88 as scale * (1 + r + rest), as in ``logits._exponential``."""
    x = tl.where(x < -88.0, -88.0, x)  # and not a maximum: what is not a number has to stay so
    n = tl.floor(x * _LOG2_E + 0.5)
    r = x - n * _LN_2
    power = tl.where(x == x, n, 0.0).to(tl.int32)
    scale = ((power + 127) << 23).to(tl.float32, bitcast=True)
    rest = r * r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7)))))
    return scale, r, rest


@triton.jit
def _diverge(
    p_logits,
    p_stride,
    q_logits,
    q_stride,
    p_peaks,
    p_log_sums,
    q_peaks,
    q_log_sums,
    kl,
    columns,
    LANES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    p_logits += row * p_stride
    q_logits += row * q_stride
    p_first, p_then = tl.load(p_peaks + row), tl.load(p_log_sums + row)
    q_first, q_then = tl.load(q_peaks + row), tl.load(q_log_sums + row)
    lanes = tl.arange(0, LANES)
    total = tl.zeros([LANES], tl.float32)
    for start in range(0, columns, LANES):
        token = start + lanes
        there = token < columns
        log_p = (tl.load(p_logits + token, mask=there).to(tl.float32) - p_first) - p_then
        log_q = (tl.load(q_logits + token, mask=there).to(tl.float32) - q_first) - q_then
        d = log_q - log_p
        scale, r, rest = _exponential(log_p)
        p = scale * (1.0 + r + rest)
        scale, r, rest = _exponential(log_q)
        q = scale * (1.0 + r + rest)
        scale, r, rest = _exponential(tl.where(d > 1.0, 1.0, d))
        near = p * (scale * rest + ((scale - 1.0) + scale * r - d))
        # Beyond, nothing cancels, and exp(d) may have no number in fp32.
        term = tl.where(d <= 1.0, near, q - p * (1.0 + d))
        # Here d may be infinite or, for -inf twice, not a number; the term's limit is q.
        term = tl.where(p == 0.0, q, term)
        term = tl.where(d == float("-inf"), float("inf"), term)
        total += tl.where(there, term, 0.0)
    tl.store(kl + row, tl.sum(total, 0))
