"""What a run found, in sentences that need no table."""

from __future__ import annotations

from harness.results.numbers import counted, nats, shown, signed
from harness.results.schema import EditRecord, Results, VariantRecord, VersusControl, VersusOriginal

_SURE = 0.05


def headlines(results: Results) -> list[str]:
    """One sentence for each variant: what was edited, what it changed, and what chance would."""
    found = (_headline(name, variant) for name, variant in results.variants.items())
    return [sentence for sentence in found if sentence]


def remarks(results: Results) -> list[str]:
    """What a reader should know beside the figures: texts that are missing, then the warnings."""
    everything = {**results.variants, **results.controls}
    missing = (_not_continued(name, variant) for name, variant in everything.items())
    return [*(sentence for sentence in missing if sentence), *results.warnings]


def _headline(name: str, variant: VariantRecord) -> str | None:
    edit, change = variant.edit, variant.versus_original
    if edit is None or edit.is_original or change is None:
        return None
    what = f"{name} {edit.verb or 'edits'} {edit.entries:,} of {_looked_at(edit)}"
    if edit.which:
        what += f", {edit.which}"
    if change.delta_nll is None:
        return f"{what}: the likelihood of the text is not finite any more."
    return f"{what}: {nats(change.delta_nll)} per token{_beside_chance(name, edit, variant)}"


def _looked_at(edit: EditRecord) -> str:
    weights = "weights" if edit.scope in (None, "all weights") else f"weights ({edit.scope})"
    total = edit.in_scope or round(edit.entries / edit.fraction)
    return f"{total:,} {weights}"


def _beside_chance(name: str, edit: EditRecord, variant: VariantRecord) -> str:
    change, against = variant.versus_original, variant.versus_control
    assert change is not None
    if against is None:
        return (
            "; without a control, so it is not known whether random weights would do as much "
            f"(model.variants.{name}.controls: 19)."
        )
    ones = counted(edit.entries, "random one")
    theirs = shown(signed, against.delta_nll, against.delta_nll_ci95)
    return f"; {ones}: {theirs}: {_verdict(change, against)}."


def _verdict(change: VersusOriginal, against: VersusControl) -> str:
    """Whether a change is beyond what random selections do."""
    if against.excess_delta_nll is None:
        return "a control is not finite, so that nothing can be told from chance"
    if against.excess_ci95 is None:
        few = "control" if against.controls == 1 else "text"
        return f"one {few} shows no spread, so more are needed to tell it from chance"
    low, high = against.excess_ci95
    if low > 0 and (against.p_value is None or against.p_value <= _SURE):
        return "more than chance"
    if high < 0:
        return "less than chance"
    return "no more than chance can do"


def _not_continued(name: str, variant: VariantRecord) -> str | None:
    text = variant.generation
    if text is None or not text.broken:
        return None
    if text.broken == text.prompts:
        return f"{name}: wrote nothing, as its logits were not finite after any prompt."
    return (
        f"{name}: did not continue {text.broken} of {text.prompts} prompts, after which its logits "
        "were not finite; what is said of its texts is of the others."
    )
