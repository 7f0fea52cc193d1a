"""What is measured at one position: likelihood, divergence and agreement, from rows of logits.

Legend: n positions, V entries of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Fewer are done before a thread has started.
_VALUES_PER_THREAD = 2**18


@dataclass(frozen=True)
class TokenScores:
    """Scores of the N scored tokens of a batch, in row-major order.

    Attributes:
        nll: Negative log-likelihood of each target, fp32 [N], in nats.
        kl: Divergence of the original's prediction from this one's, fp32 [N], in nats; None for
            the original itself.
        agree: Whether both hold the same token to be the likeliest, bool [N]; None for the
            original itself.
    """

    nll: Tensor
    kl: Tensor | None = None
    agree: Tensor | None = None

    def versus_itself(self) -> TokenScores:
        """Scores of a variant that is this model: no divergence, unless nothing is finite."""
        return TokenScores(self.nll, self.nll - self.nll, ~self.nll.isnan())


@dataclass(frozen=True)
class Predictions:
    """A model's predictions at n positions.

    The log-probability of a token is its logit, less the peak, less the logarithm of the sum.

    Attributes:
        logits: Logits, fp32 [n, V].
        peak: The largest logit, fp32 [n].
        log_sum: The logarithm of the sum of exp(logit - peak), fp32 [n].
        top: The likeliest token, int64 [n]; of several equally likely ones the first.
    """

    logits: Tensor
    peak: Tensor
    log_sum: Tensor
    top: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Predictions:
        """Predictions from logits [n, V] of any floating-point type; computed in fp32."""
        logits = logits.float().contiguous()
        # From the logits: the softmax rounds, and may make a tie where they have none.
        peak, top = logits.max(dim=-1)
        sums = sums_by_kernel if logits.device.type == "cpu" else sums_by_operations
        return cls(logits, peak, sums(logits, peak).log_(), top)

    def log_probs(self) -> Tensor:
        """Log-probabilities, fp32 [n, V], in nats."""
        return (self.logits - self.peak[:, None]).sub_(self.log_sum[:, None])


def token_nll(predictions: Predictions, targets: Tensor) -> Tensor:
    """Negative log-likelihood of the targets.

    Args:
        predictions: Predictions at n positions.
        targets: Token ids, int64 [n].

    Returns:
        fp32 [n], in nats.
    """
    logits = predictions.logits.gather(1, targets[:, None]).squeeze(1)
    return predictions.log_sum - (logits - predictions.peak)


def token_agreement(original: Predictions, variant: Predictions) -> Tensor:
    """Whether both predict the same token; never where either is not a number.

    Returns:
        bool [n].
    """
    numbers = original.log_sum.isnan() | variant.log_sum.isnan()
    return (original.top == variant.top) & ~numbers


def token_kl(original: Predictions, variant: Predictions) -> Tensor:
    """Generalised Kullback-Leibler divergence of the original's predictions from a variant's.

    The sum over the vocabulary of `p (log p - log q) - p + q`, which is `scipy.special.kl_div`
    and, for probabilities that sum to one, the usual divergence. Every term is positive, and an
    error in either normaliser counts only to second order, so that a small divergence is not lost
    in the rounding of large ones: equal inputs give exactly 0. With d = log q - log p a term is
    p (exp(d) - 1 - d), from a series; beyond d = 1, where p may be 0, it is taken from q itself.

    The relative error in fp32 is at most about 1e-5 from 1e-3 nats on, 1e-3 from 1e-7 nats and
    1e-2 from 1e-9 nats; below that it is what the rounding of the logits themselves allows. A token
    whose probability has no normal number in fp32, below about 1e-38, counts as impossible.

    Args:
        original: The original's predictions at n positions.
        variant: The variant's predictions at the same positions.

    Returns:
        fp32 [n], in nats, at least 0; infinite where the variant rules out what the original
        holds possible, NaN where either is NaN.
    """
    on_cpu = original.logits.device.type == "cpu"
    kl = kl_by_kernel if on_cpu else kl_by_operations
    return kl(original, variant).clamp_(min=0)


def sums_by_kernel(logits: Tensor, peak: Tensor) -> Tensor:
    """Sums of exp(logit - peak), fp32 [n], on the CPU."""
    from harness.kernels import logits as kernels

    sums = torch.empty_like(peak)
    _in_threads(kernels.exponential_sums, logits, peak, sums)
    return sums


def sums_by_operations(logits: Tensor, peak: Tensor) -> Tensor:
    """The same on any device."""
    return (logits - peak[:, None]).exp_().sum(dim=-1)


def kl_by_kernel(original: Predictions, variant: Predictions) -> Tensor:
    """Divergences, fp32 [n], on the CPU."""
    from harness.kernels import logits as kernels

    kl = torch.empty_like(original.peak)
    p, q = ((part.logits, part.peak, part.log_sum) for part in (original, variant))
    _in_threads(kernels.divergences, *p, *q, kl)
    return kl


def kl_by_operations(original: Predictions, variant: Predictions) -> Tensor:
    """The same on any device."""
    log_p, log_q = original.log_probs(), variant.log_probs()
    d = log_q - log_p
    p, q = log_p.exp_(), log_q.exp_()
    terms = d.clamp(max=1.0).expm1_().sub_(d).mul_(p)
    # Nothing up to d = 1, where q <= e p; beyond, what expm1 was kept from adding.
    terms += torch.sub(q, p, alpha=math.e).relu_()
    # Here d may be infinite or, for -inf twice, not a number; the term's limit is q.
    terms = torch.where(p == 0, q, terms)
    return terms.masked_fill_(d == -math.inf, math.inf).sum(dim=-1)


def _in_threads(loop: Callable[..., None], *tensors: Tensor) -> None:
    """Runs a compiled loop over the rows of some tensors, in as many threads as torch uses."""
    arrays = [tensor.numpy() for tensor in tensors]
    threads = min(torch.get_num_threads(), arrays[0].size // _VALUES_PER_THREAD)
    if threads <= 1:
        loop(*arrays)
        return
    parts = (np.array_split(array, threads) for array in arrays)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(loop, *parts))
