"""What TensorBoard shows: few enough tags to browse, the same for each variant."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from harness.probes import RESIDUAL, Moments, Site, Where
from harness.results import schema
from harness.results.figures import TAGGED
from harness.results.titles import title
from harness.scoring import Tally

MOST_TAGS = 300
"""More tags than this are slow to browse; everything is in ``activations.parquet``."""

# Statistics by group, and those of the residual stream alone.
_BY_GROUP = ("max_abs", "rms", "kurtosis", "outlier_share", "sigma_share")
_RESIDUAL_ALONE = ("massive", "max_abs_first", "max_abs_decode")


def layers_shown(sites: Iterable[Site]) -> set[int]:
    """Decoder blocks whose residual stream has tags: all, or evenly spread ones of a deep model."""
    sites = list(sites)
    kinds = len({site.kind for site in sites} - {RESIDUAL})
    layers = sorted(
        {site.layer for site in sites if site.kind == RESIDUAL and site.layer is not None}
    )
    room = (MOST_TAGS - kinds * len(_BY_GROUP)) // (len(_BY_GROUP) + len(_RESIDUAL_ALONE))
    if len(layers) <= room:
        return set(layers)
    last = max(1, room - 1)
    return {layers[round(k * (len(layers) - 1) / last)] for k in range(max(1, room))}


def score_tags(tally: Tally, original: Tally) -> dict[str, float]:
    """Scalars of one batch of windows.

    Args:
        tally: What a model scored.
        original: What the original scored.
    """
    nll, kl, base = map(math.fsum, (tally.rows.nll, tally.rows.kl, original.rows.nll))
    mean = nll / tally.tokens
    largest = math.nan if tally.kl.nonfinite else tally.kl.maximum
    return {
        "likelihood/nll": mean,
        "likelihood/delta_nll": mean - base / original.tokens,
        "divergence/kl_mean": kl / tally.tokens,
        "divergence/kl_max": 0.0 if largest is None else largest,
        "divergence/top1_agreement": int(tally.rows.agree.sum()) / tally.tokens,
    }


def activation_tags(seen: Mapping[Where, Moments], layers: set[int]) -> dict[str, float]:
    """Scalars of one step.

    The first position of a text is kept out of all but ``max_abs_first`` and ``massive``: it often
    holds values far from those of the others. ``max_abs_decode`` is of text that is being written.

    Args:
        seen: What was seen in the step.
        layers: Decoder blocks that have tags.

    Returns:
        Values by tag: ``max_abs/residual_00``, ``kurtosis/mlp.down_proj``, ....
    """
    groups: dict[tuple[str, bool, str, str], list[Moments]] = defaultdict(list)
    for (site, phase, part), moments in seen.items():
        if site.kind != RESIDUAL:
            groups[site.kind, False, phase, part].append(moments)
        elif site.layer in layers:
            groups[f"{RESIDUAL}_{site.layer:02d}", True, phase, part].append(moments)
    tags: dict[str, float] = {}
    for (group, residual, phase_seen, part_seen), parts in groups.items():
        moments = Moments.sum(parts)
        if phase_seen == "decode":
            if residual:
                tags[f"max_abs_decode/{group}"] = moments.max_abs
            continue
        if residual:
            massive = moments.massive if math.isfinite(moments.max_abs) else math.nan
            tags[f"massive/{group}"] = tags.get(f"massive/{group}", 0) + massive
        if part_seen == "first":
            if residual:
                tags[f"max_abs_first/{group}"] = moments.max_abs
            continue
        tags |= {f"{name}/{group}": value for name, value in _statistics(moments).items()}
    return tags


def weight_tags(weights: Mapping[Site, Moments]) -> dict[str, float]:
    """Scalars of the weights, by kind of parameter over all layers.

    Args:
        weights: Moments by parameter.
    """
    groups: dict[str, list[Moments]] = defaultdict(list)
    for site, moments in weights.items():
        groups[site.kind].append(moments)
    tags: dict[str, float] = {}
    for kind, parts in groups.items():
        moments = Moments.sum(parts)
        tags[f"weight_max_abs/{kind}"] = moments.max_abs
        # Of single tensors, since those of different layers differ in scale; some have none.
        kurtoses = [part.kurtosis for part in parts if not math.isnan(part.kurtosis)]
        tags[f"weight_kurtosis/{kind}"] = max(kurtoses, default=math.nan)
        tags[f"weight_outliers/{kind}"] = moments.beyond_sigmas
    return tags


def _statistics(moments: Moments) -> dict[str, float]:
    values = (
        moments.max_abs,
        moments.rms,
        moments.kurtosis,
        moments.share_beyond,
        moments.share_beyond_sigmas,
    )
    return dict(zip(_BY_GROUP, values, strict=True))


def hyperparameters(
    name: str, record: schema.VariantRecord, measured: schema.Results
) -> dict[str, str | int]:
    """What tells a row of the HParams page from the others: no more than it shows unasked.

    Args:
        name: The variant.
        record: What was measured of it.
        measured: All results.
    """
    edit = record.edit
    return {
        "variant": name,
        "criterion": (edit.criterion or "unknown") if edit else "none",
        "edit": (edit.edit or "unknown") if edit else "none",
        "entries": edit.entries if edit else 0,
        "model": title(measured),
    }


def final_metrics(record: schema.VariantRecord) -> dict[str, float]:
    """The figures of a whole run, under the same tags for every variant; NaN where there is none.

    Args:
        record: What was measured of a variant, or of the original.
    """
    return {f"final/{figure.tag}": figure.value(record) for figure in TAGGED}
