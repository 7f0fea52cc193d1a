"""Whether logits that were made in two ways are the same, but for rounding."""

from __future__ import annotations

import torch
from torch import Tensor


def logits_agree(expected: Tensor, found: Tensor, *, epsilons: float) -> bool:
    """Whether logits differ by no more than rounding explains.

    What is forgiven is some epsilons of the expected logits' data type, of each logit and of how
    far logits spread, or 1e-4 of that if it is more. The spread is their median distance from the
    median, which neither an offset of all nor a masked vocabulary moves.

    Args:
        expected: Logits of any shape.
        found: Others of that shape. Where these are not finite, they have to be the same.
        epsilons: How many epsilons.
    """
    rounding = epsilons * torch.finfo(expected.dtype).eps
    expected, found = expected.float(), found.float()
    finite = expected[expected.isfinite()]
    spread = float((finite - finite.median()).abs().median()) if len(finite) else 0.0
    tolerance = max(1e-4, rounding) * spread
    return torch.allclose(found, expected, rtol=rounding, atol=tolerance, equal_nan=True)
