"""Results written by hand: a variant with two controls, and one that selected nothing."""

from __future__ import annotations

import dataclasses

from harness.results.schema import (
    DataRecord,
    EditRecord,
    Likelihood,
    ModelRecord,
    NoiseFloor,
    Results,
    RunRecord,
    TextRecord,
    VariantRecord,
    VersusControl,
    VersusOriginal,
)


def variant(
    perplexity: float | None,
    entries: int,
    versus: VersusOriginal,
    control: VersusControl | None = None,
) -> VariantRecord:
    edit = EditRecord(
        *("SigmaThreshold(sigmas=5.0)", "Zero()", entries, entries / 2_600_000),
        *({"Linear": entries}, None, not entries),
        *("matrices", 2_500_000, "zeroes", "those beyond 5 sigma of their tensor"),
    )
    return VariantRecord(Likelihood(1.0, perplexity, None, None, None), edit, versus, control)


def versus(
    delta: float | None,
    ends: tuple[float, float] | None,
    p: float | None,
    kl: float | None,
    top1: float | None,
) -> VersusOriginal:
    return VersusOriginal(delta, ends, p, 1.0, kl, 0.0, 0.0, 0.0, top1)


def make_results() -> Results:
    against = VersusControl(
        *(2, 0.0003, (0.0, 0.0005), 0.0368, (0.03, 0.04), None, None),
        *(-0.0001, 0.0007),
    )
    change = versus(0.0371, (0.0315, 0.0439), 0.0002, 0.03248, 0.867)
    return Results(
        RunRecord("mine", 3, "validate", 42, 1, "32-true", 12.4, False),
        ModelRecord("/models/llama", None, "LlamaForCausalLM", 2_600_000, "float32"),
        DataRecord(
            *("/texts/a.txt", "all", 24, 120, 33_058, 100, 200),
            *(256, 128, "document", "start", "rolling"),
        ),
        NoiseFloor(0.0, None),
        {
            "original": VariantRecord(Likelihood(1.0, 97.19, None, None, None)),
            "none": variant(97.19, 0, versus(0.0, (0.0, 0.0), 1.0, 0.0, 1.0)),
            "sigma5": variant(100.9, 1_243, change, against),
        },
        {
            "sigma5-control-0": variant(97.0, 1_243, versus(0.1, None, 0.5, 2e-4, 0.98)),
            "sigma5-control-1": variant(98.0, 1_243, versus(0.1, None, 0.5, 4e-4, 0.99)),
        },
        ("none: selects nothing, so this variant is the original.",),
    )


def make_predicted() -> Results:
    """What `predict` leaves: texts, and a metric that could not be had of the control's."""
    written = {
        "seq_rep_4": 0.25,
        "distinct_2": 0.6,
        "diversity": 0.5,
        "loop_rate": 0.1,
        "tokens": 80,
        "prompts": 2,
        "broken": 0,
        "ci95": {"seq_rep_4": (0.2, 0.3)},
    }
    original = TextRecord(**written, metrics={"words": 12.0})
    departed = dataclasses.replace(
        original,
        seq_rep_4=0.5,
        diversity=0.25,
        loop_rate=0.2,
        identical_to_original=0.75,
        ci95={"seq_rep_4": (0.4, 0.6)},
        metrics={"words": 11.0},
    )
    control = dataclasses.replace(original, identical_to_original=1.0, metrics={"words": None})
    edit = EditRecord("criterion", "Zero()", 1_243, 0.1, {"Linear": 1_243}, None, False)
    results = make_results()
    return dataclasses.replace(
        results,
        run=dataclasses.replace(results.run, command="predict"),
        data=None,
        noise_floor=None,
        variants={
            "original": VariantRecord(generation=original),
            "sigma5": VariantRecord(edit=edit, generation=departed),
        },
        controls={"sigma5-control-0": VariantRecord(edit=edit, generation=control)},
        warnings=(),
    )
