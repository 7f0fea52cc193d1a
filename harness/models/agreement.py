"""Whether logits that were made in two ways are the same, but for rounding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.outliers.rounding import nudged

# Of 48 prompts continued by two models in three data types, padding changed a logit by at most 1.9
# times what nudged weights did; reading the padding as text by at least 4 times, mostly 100.
_TIMES = 3


def same_but_for_rounding(
    model: nn.Module,
    expected: Tensor,
    found: Tensor,
    make: Callable[[], Tensor],
    *,
    epsilons: float,
) -> bool:
    """Whether a model's logits, made in two ways, differ by no more than its own rounding.

    Some epsilons are forgiven at once. A deep model in half precision may round further apart than
    any few of them, and how far is its own: then its logits are made twice more, the second time by
    weights of which some are moved to the next number of their type (`harness.outliers.rounding`),
    and three times the largest difference of these two is forgiven.

    Args:
        model: The model.
        expected: Its logits, of any shape.
        found: Its logits made in the other way, in that shape.
        make: Makes its logits in one of the ways, or a part of them.
        epsilons: How many epsilons of the expected logits' data type are forgiven at once.
    """
    if logits_agree(expected, found, epsilons=epsilons):
        return True
    plain = make().float()
    with nudged(model).applied(model):
        apart = (make().float() - plain).abs()
    own = float(apart.nan_to_num(0.0, posinf=0.0).max())
    return logits_agree(expected, found, epsilons=epsilons, besides=_TIMES * own)


def logits_agree(expected: Tensor, found: Tensor, *, epsilons: float, besides: float = 0.0) -> bool:
    """Whether logits differ by no more than some epsilons explain.

    What is forgiven is some epsilons of the expected logits' data type, of each logit and of how
    far logits spread, or 1e-4 of that if it is more. The spread is the median distance from the
    median of the values that there are, each taken once: neither an offset of all moves it, nor a
    vocabulary of which any share is masked.

    Args:
        expected: Logits of any shape.
        found: Others of that shape. Where these are not finite, they have to be the same.
        epsilons: How many epsilons.
        besides: What else is forgiven of each logit.
    """
    rounding = epsilons * torch.finfo(expected.dtype).eps
    expected, found = expected.float(), found.float()
    values: Tensor = expected[expected.isfinite()].unique()  # type: ignore[no-untyped-call]
    spread = float((values - values.median()).abs().median()) if len(values) else 0.0
    tolerance = max(1e-4, rounding) * spread + besides
    return torch.allclose(found, expected, rtol=rounding, atol=tolerance, equal_nan=True)
