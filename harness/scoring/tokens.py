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

from harness.kernels.where import by_triton

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
        logits: Logits [n, V], fp32, or in the model's own type where kernels read that.
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
        if by_triton(logits.device, logits.dtype, kernels_agree):
            return cls.by_triton(logits)
        sums = sums_by_kernel if logits.device.type == "cpu" else sums_by_operations
        return cls.by_operations(logits, sums)

    @classmethod
    def by_operations(cls, logits: Tensor, sums: Callable[[Tensor, Tensor], Tensor]) -> Predictions:
        """The same anywhere, by a function for the sums of exponentials."""
        logits = logits.float().contiguous()
        # From the logits: the softmax rounds, and may make a tie where they have none.
        peak, top = logits.max(dim=-1)
        return cls(logits, peak, sums(logits, peak).log_(), top)

    @classmethod
    def by_triton(cls, logits: Tensor) -> Predictions:
        """The same where Triton is, from logits as they lie."""
        from harness.kernels import triton_logits as kernels

        logits = logits.float() if logits.dtype == torch.float64 else logits
        # Its tokens side by side; rows may lie apart, as those of a chunk of a padded vocabulary.
        logits = logits if logits.stride(1) == 1 else logits.contiguous()
        return cls(logits, *kernels.predictions(logits))

    def log_probs(self) -> Tensor:
        """Log-probabilities, fp32 [n, V], in nats."""
        return (self.logits.float() - self.peak[:, None]).sub_(self.log_sum[:, None])


def token_nll(predictions: Predictions, targets: Tensor) -> Tensor:
    """Negative log-likelihood of the targets.

    Args:
        predictions: Predictions at n positions.
        targets: Token ids, int64 [n].

    Returns:
        fp32 [n], in nats.
    """
    logits = predictions.logits.gather(1, targets[:, None]).squeeze(1)
    return predictions.log_sum - (logits.float() - predictions.peak)


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
    device = original.logits.device
    dtypes = {original.logits.dtype, variant.logits.dtype}
    if all(by_triton(device, dtype, kernels_agree) for dtype in dtypes):
        kl = kl_by_triton
    else:
        kl = kl_by_kernel if device.type == "cpu" else kl_by_operations
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


def kl_by_triton(original: Predictions, variant: Predictions) -> Tensor:
    """The same where Triton is."""
    from harness.kernels import triton_logits as kernels

    p, q = ((part.logits, part.peak, part.log_sum) for part in (original, variant))
    return kernels.divergences(*p, *q)


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


def kernels_agree(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether kernels in Triton give, on a device, the numbers that plain operations give."""
    places = torch.arange(2 * 3000, dtype=torch.float32, device=device).reshape(2, 3000)
    x = (5 * torch.sin(places)).to(dtype)
    y = (x + 0.5 * torch.cos(7 * places)).to(dtype)
    p, q = Predictions.by_triton(x), Predictions.by_triton(y)
    want_p, want_q = (Predictions.by_operations(each, sums_by_operations) for each in (x, y))
    found = torch.stack([p.peak, p.log_sum, q.peak, q.log_sum, kl_by_triton(p, q)])
    kl = kl_by_operations(want_p, want_q)
    wanted = torch.stack([want_p.peak, want_p.log_sum, want_q.peak, want_q.log_sum, kl])
    same = torch.equal(p.top, want_p.top) and torch.equal(q.top, want_q.top)
    return same and torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


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
