"""Whether logits that were made in two ways are the same, but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor


def logits_agree(expected: Tensor, found: Tensor, *, epsilons: float) -> bool:
    """Whether logits differ by no more than rounding explains.

    What is forgiven is some epsilons of the expected logits' data type, of each logit and of how
    far logits spread, or 1e-4 of that if it is more. The spread is the median distance from the
    median of the values that there are, each taken once: neither an offset of all moves it, nor a
    vocabulary of which any share is masked.

    Args:
        expected: Logits of any shape.
        found: Others of that shape. Where these are not finite, they have to be the same.
        epsilons: How many epsilons.
    """
    rounding = epsilons * torch.finfo(expected.dtype).eps
    expected, found = expected.float(), found.float()
    values: Tensor = expected[expected.isfinite()].unique()  # type: ignore[no-untyped-call]
    spread = float((values - values.median()).abs().median()) if len(values) else 0.0
    tolerance = max(1e-4, rounding) * spread
    return torch.allclose(found, expected, rtol=rounding, atol=tolerance, equal_nan=True)
