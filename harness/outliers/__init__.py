"""What an outlier is, which weights may be one, and what is done to it."""

from harness.outliers.criteria import AbsoluteThreshold, Criterion, SigmaThreshold, TopFraction
from harness.outliers.edits import Clip, Edit, Epsilon, Zero
from harness.outliers.parameters import unique_parameters
from harness.outliers.patch import Patch, make_patch, matched_control
from harness.outliers.scope import Scope
from harness.outliers.tensor_patch import TensorPatch

__all__ = [
    "AbsoluteThreshold",
    "Clip",
    "Criterion",
    "Edit",
    "Epsilon",
    "Patch",
    "Scope",
    "SigmaThreshold",
    "TensorPatch",
    "TopFraction",
    "Zero",
    "make_patch",
    "matched_control",
    "unique_parameters",
]
