"""What a reader should know before believing a figure, one sentence each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from harness.data import PromptBatch, WindowBatch
from harness.models.head import ChunkedHead
from harness.outliers import Patch
from harness.outliers.variants import Variant
from harness.probes import first_nonfinite
from harness.results import schema
from harness.statistics.controls import FEWEST_CONTROLS
from harness.statistics.significance import FEWEST_RESAMPLES, FEWEST_UNITS
from harness.writing.generate import leaves_padding_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Caveats:
    """Sentences about one measurement.

    Args:
        head: The model as it is scored.
        variants: What is measured beside it.

    Attributes:
        sentences: In the order in which they came up.
    """

    def __init__(self, head: ChunkedHead, variants: Sequence[Variant]) -> None:
        self.sentences: list[str] = []
        self._broken: set[str] = set()
        self._padding_tried = False
        if head.reason is not None:
            self.sentences.append(f"All logits of a batch are in memory at once: {head.reason}.")
        for variant in variants:
            if variant.control_of is None and not variant.patch.entries:
                nearest = variant.told.nearest
                self.sentences.append(
                    f"{variant.name}: {variant.criterion} selects nothing, so this variant is the "
                    f"original{f'; {nearest}' if nearest else ''}."
                )

    def padded(self, model: PreTrainedModel, batch: PromptBatch) -> None:
        """Says of a model that padding changes that prompts are not continued by themselves.

        Args:
            model: The original.
            batch: Prompts that it continues; tried is the shortest of the first that are padded.
        """
        if self._padding_tried or bool(batch.attention_mask.all()):
            return
        self._padding_tried = True
        shortest = int(batch.attention_mask.sum(1).argmin())
        try:
            sound = leaves_padding_out(
                model, batch.input_ids[shortest], batch.attention_mask[shortest]
            )
        except Exception:  # what foreign code makes of the trial is no reason to end a run
            return
        if not sound:
            self.sentences.append(
                "Padding changes what this model writes, so that the text after a prompt depends "
                "on the longer ones beside it; data.prompt_batch_size: 1 keeps them apart."
            )

    def not_finite(
        self, name: str, patch: Patch, model: nn.Module, batch: WindowBatch | PromptBatch
    ) -> None:
        """Says once of a variant where in the model its numbers cease to be finite.

        Args:
            name: The variant.
            patch: Its patch.
            model: The original.
            batch: Where it was seen first.
        """
        if name in self._broken:
            return
        self._broken.add(name)
        forward = partial(model, batch.input_ids, attention_mask=batch.attention_mask)
        with patch.applied(model):
            site = first_nonfinite(model, forward)
        where = f"first at {site}" if site else "in what is made of the logits"
        kind = "prompts" if isinstance(batch, PromptBatch) else "batch"
        self.sentences.append(f"{name}: NaN or infinity, {where}, in {kind} {batch.number}.")


def too_few(
    samples: Sequence[int], variants: Mapping[str, schema.VariantRecord], resamples: int, units: str
) -> list[str]:
    """Sentences about what cannot be told of so little: each reason once for all variants.

    Args:
        samples: Of each unit that was scored, the number of its text.
        variants: What was measured.
        resamples: Random changes of sign behind p-values.
        units: What the units are called.
    """
    if not variants:
        return []
    said = []
    texts = len(set(samples))
    if texts < len(samples):
        held = "one text" if texts == 1 else f"{texts} different texts"
        said.append(
            f"{len(samples)} {units} hold {held}: equal ones count in totals each, in intervals "
            "and p-values as one."
        )
    if texts == 1:
        said.append(
            f"Of one text alone no spread is told: no intervals and no p (texts). Two different "
            f"{units} give intervals, {FEWEST_UNITS} a p."
        )
    elif texts < FEWEST_UNITS:
        said.append(
            f"No p (texts): of {texts} different {units} it could not be below "
            f"{2 / 2**texts:.2g}; at least {FEWEST_UNITS} can reach 0.05."
        )
    elif resamples < FEWEST_RESAMPLES:
        said.append(
            f"No p (texts): of so few changes of sign it could not be below "
            f"{1 / (1 + resamples):.2g}; model.resamples: {FEWEST_RESAMPLES} can reach 0.05."
        )
    elif still := [name for name, variant in variants.items() if _hardly_moves(variant)]:
        said.append(
            f"No p (texts) where fewer than {FEWEST_UNITS} {units} change: {', '.join(still)}."
        )
    against = [v.versus_control.controls for v in variants.values() if v.versus_control]
    few = [controls for controls in against if controls < FEWEST_CONTROLS]
    if few:
        said.append(
            f"No p (vs random) and no ratio of fewer than {FEWEST_CONTROLS} controls: "
            f"with {max(few)} p could not be below {1 / (1 + max(few)):.2g}."
        )
    if 1 in few:
        said.append(
            "One control tells nothing of the spread between random selections: no interval of "
            "their mean nor of the excess over it. At least two controls give one."
        )
    return said


def _hardly_moves(variant: schema.VariantRecord) -> bool:
    """Whether a variant has no p-value although its entries were edited and its nll is finite."""
    change = variant.versus_original
    if change is None or variant.edit is None or variant.edit.is_original:
        return False
    return change.delta_nll is not None and change.p_value is None
