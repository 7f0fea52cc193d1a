"""What is measured at one position: likelihood, divergence and agreement, from rows of logits.

Legend: n positions, V entries of the vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK_BYTES = 2 * 2**20


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

    Attributes:
        log_probs: Log-probabilities, fp32 [n, V], in nats.
        top: The likeliest token, int64 [n]; of several equally likely ones the first.
    """

    log_probs: Tensor
    top: Tensor

    @classmethod
    def of(cls, logits: Tensor, *, overwrite: bool = False) -> Predictions:
        """Predictions from logits; computed in fp32.

        Args:
            logits: Logits [n, V] of any floating-point type.
            overwrite: Whether fp32 logits may become the log-probabilities, to save memory.
        """
        log_probs = logits.to(torch.float32, copy=not overwrite)
        top = []
        for block in _blocks(log_probs):
            # The softmax rounds, and may make a tie where the logits have none.
            top.append(block.argmax(dim=-1))
            block.copy_(torch.log_softmax(block, dim=-1))
        return cls(log_probs, torch.cat(top))


def token_nll(predictions: Predictions, targets: Tensor) -> Tensor:
    """Negative log-likelihood of the targets.

    Args:
        predictions: Predictions at n positions.
        targets: Token ids, int64 [n].

    Returns:
        fp32 [n], in nats.
    """
    return -predictions.log_probs.gather(1, targets[:, None]).squeeze(1)


def token_agreement(original: Predictions, variant: Predictions) -> Tensor:
    """Whether both predict the same token; never where either is not a number.

    Returns:
        bool [n].
    """
    numbers = _top_log_prob(original).isnan() | _top_log_prob(variant).isnan()
    return (original.top == variant.top) & ~numbers


def token_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Generalised Kullback-Leibler divergence of log_p from log_q.

    The sum over the vocabulary of `p (log p - log q) - p + q`, which is `scipy.special.kl_div`
    and, for probabilities that sum to one, the usual divergence. Every term is positive, and an
    error in either normaliser counts only to second order, so that a small divergence is not lost
    in the rounding of large ones: equal inputs give exactly 0. With d = log q - log p a term is
    p (exp(d) - 1 - d), taken from `expm1`; beyond d = 1, where p may be 0, from q itself.

    The relative error in fp32 is at most about 1e-5 from 1e-3 nats on, 1e-3 from 1e-7 nats and
    1e-2 from 1e-9 nats; below that it is what the rounding of the logits themselves allows.

    Args:
        log_p: Log-probabilities of the original, fp32 [n, V]; -inf for an impossible token.
        log_q: Log-probabilities of the variant, fp32 [n, V].

    Returns:
        fp32 [n], in nats, at least 0; infinite where the variant rules out what the original
        holds possible, NaN where either is NaN.
    """
    pairs = zip(_blocks(log_p), _blocks(log_q), strict=True)
    return torch.cat([_kl_of_rows(*pair) for pair in pairs])


def _blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Views of a few rows each, that stay in the processor's cache while they are worked on.

    On other devices all rows are one block: there small ones are only more launches.
    """
    count = _BLOCK_BYTES // (4 * rows.shape[1]) if rows.device.type == "cpu" else len(rows)
    return torch.split(rows, max(1, count))


def _kl_of_rows(log_p: Tensor, log_q: Tensor) -> Tensor:
    p, q = log_p.exp(), log_q.exp()
    d = log_q - log_p
    terms = d.clamp(max=1.0).expm1_().sub_(d).mul_(p)
    # Nothing up to d = 1, where q <= e p; beyond, what expm1 was kept from adding.
    terms += torch.sub(q, p, alpha=math.e).relu_()
    # Here d may be infinite or, for -inf twice, not a number; the term's limit is q.
    terms = torch.where(p == 0, q, terms)
    return terms.sum(dim=-1).clamp_(min=0)


def _top_log_prob(predictions: Predictions) -> Tensor:
    return predictions.log_probs.gather(1, predictions.top[:, None]).squeeze(1)
