"""What is measured and how: all that results hold beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from harness.base.memory import give_back
from harness.base.stages import stage
from harness.data import ScoredText
from harness.evaluation.keys import key_of
from harness.outliers.intervention import Intervention
from harness.outliers.patch import Patch
from harness.outliers.rounding import nudged
from harness.outliers.spread import remembered
from harness.outliers.variants import Variant
from harness.probes import Site
from harness.results.schema import EditRecord, ModelRecord, ObserverRecord

# No variant can have these names.
NOISE_FLOOR = "(original again)"
ROUNDING = "(original, rounded otherwise)"
_FLOOR_STEPS = 8

Decode = Callable[[Sequence[int]], str]
"""Text of token ids."""


@dataclass(frozen=True)
class Subject:
    """The model under an intervention: what is measured beside the original.

    Attributes:
        name: Its name in tables, files and TensorBoard.
        intervention: What is done to the model.
        control_of: The variant that it is a control for; None for a variant.
        is_thorough: Whether it also continues prompts and is observed, as the first of a variant's
            controls is and the others are not.
        steps: Only so many batches are scored by it, the first ones, and it is scored anew even if
            it is the original: so floors are measured. None: all.
        edit: What results tell of the intervention.
    """

    name: str
    intervention: Intervention
    control_of: str | None = None
    is_thorough: bool = True
    steps: int | None = None
    edit: EditRecord | None = None

    @property
    def is_floor(self) -> bool:
        """Whether it measures what of a difference is arithmetic, and is no variant."""
        return self.steps is not None

    @property
    def is_original(self) -> bool:
        """Whether nothing was done, so that it need not be computed again."""
        return self.intervention.is_identity and not self.is_floor

    @property
    def patch_file(self) -> str | None:
        """Where a run folder holds its intervention; None for controls and for the original."""
        if self.control_of is not None or self.is_original or self.is_floor:
            return None
        return f"patches/{self.name}.safetensors"

    @property
    def key(self) -> str:
        """What is the same for subjects of which the same is measured."""
        return key_of(self.intervention.key, self.is_thorough, self.is_floor)

    def takes(self, number: int) -> bool:
        """Whether it scores the batch of this number."""
        return self.steps is None or number < self.steps


@dataclass(frozen=True)
class Resampling:
    """How intervals and p-values are made.

    Attributes:
        resamples: Random changes of sign behind p-values.
        confidence: Coverage of the intervals, 0 to 1.
        seed: Seed of the changes of sign.
    """

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Design:
    """What a run measures.

    Attributes:
        model: The original.
        subjects: What is measured beside it: each variant before its controls, floors at the end.
        corpus: The text; None where none is scored.
        prompts: The prompts.
        resampling: How intervals and p-values are made.
        observed: From where on an activation is an outlier; None where nothing is observed.
        sites: The modules that are observed.
        remarks: What a reader should know, as far as it is known before anything is measured.
        decode: Text of token ids.
        metrics: Further metrics of the texts, of `evaluate`.
        model_for_others: What tells the model of a saved patch, without where it lies here.
        keys: By name of a model, what is the same where the same is done to the original.
        settings: What decides, beside those and the batches, what is measured: a few keys, by name.
    """

    model: ModelRecord
    subjects: tuple[Subject, ...] = ()
    corpus: ScoredText | None = None
    prompts: Sequence[str] = ()
    resampling: Resampling = Resampling()
    observed: ObserverRecord | None = None
    sites: tuple[Site, ...] = ()
    remarks: tuple[str, ...] = ()
    decode: Decode = str
    metrics: Sequence[Any] = ()
    model_for_others: Mapping[str, object] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def reported(self) -> tuple[Subject, ...]:
        """The variants and controls; floors have no rows of their own in results."""
        return tuple(subject for subject in self.subjects if not subject.is_floor)


def find_subjects(model: nn.Module, variants: Mapping[str, Variant], seed: int) -> list[Subject]:
    """Finds the interventions of all variants, draws their controls, and adds the floors.

    Args:
        model: The original, with its weights.
        variants: What is asked for, by name.
        seed: Seed of the controls.

    Raises:
        ConfigError: If a saved patch is of another model.
    """
    subjects: list[Subject] = []
    with remembered():  # the weights stay as they are
        for name, variant in variants.items():
            with stage(f"finding outliers: {name}"):
                found = variant.find(name, model, seed)
            subjects.append(Subject(name, found))
            for number in range(0 if found.is_identity else variant.controls):
                control = found.control(number, model)
                subjects.append(Subject(f"{name}-control-{number}", control, name, number == 0))
            give_back()
    if not (rounded := nudged(model)).is_identity:
        subjects.append(Subject(ROUNDING, rounded, is_thorough=False, steps=_FLOOR_STEPS))
    # The last: after every other has come and gone the weights must be back as they were.
    subjects.append(Subject(NOISE_FLOOR, Patch(), is_thorough=False, steps=_FLOOR_STEPS))
    return [_described(subject, model) for subject in subjects]


def _described(subject: Subject, model: nn.Module) -> Subject:
    record = subject.intervention.describe(model)
    return replace(subject, edit=replace(record, patch=subject.patch_file))
