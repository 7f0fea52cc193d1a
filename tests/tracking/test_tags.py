"""Few enough scalars, the same ones for every variant, and their values by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from harness.probes import RESIDUAL, Moments, Site, Where
from harness.scoring import Tally, TokenScores
from harness.tracking.tags import MOST_TAGS, activation_tags, layers_shown, score_tags, weight_tags

# -- scores ------------------------------------------------------------------------------------


def tally(nll: list[float], kl: Any = None, agree: Any = None) -> Tally:
    """Of two windows, of which the first has one token."""
    scores = TokenScores(
        torch.tensor(nll),
        None if kl is None else torch.tensor(kl),
        None if agree is None else torch.tensor(agree),
    )
    targets = torch.full((2, len(nll)), -100)
    targets[0, 0], targets[1, 1:] = 0, 0
    return Tally.of(torch.arange(2), torch.arange(2), targets, scores)


def test_scores_of_a_step() -> None:
    original = tally([1.0, 2.0, 6.0])
    zeroed = tally([2.0, 2.0, 8.0], [0.5, 0.0, 0.25], [True, True, False])
    assert score_tags(original, original) == {
        "likelihood/nll": 3.0,
        "likelihood/delta_nll": 0.0,
        "divergence/kl_mean": 0.0,
        "divergence/kl_max": 0.0,
        "divergence/top1_agreement": 1.0,
    }
    assert list(score_tags(zeroed, original).values()) == [
        4.0,
        1.0,
        0.25,
        0.5,
        pytest.approx(2 / 3),
    ]


@pytest.mark.parametrize("place", range(3))
def test_a_score_that_is_none_shows_in_every_figure(place: int) -> None:
    nll, kl = [1.0, 2.0, 6.0], [0.5, 0.0, 0.25]
    nll[place] = kl[place] = math.nan
    found = score_tags(tally(nll, kl, [True, True, True]), tally([1.0, 2.0, 6.0]))
    assert [tag for tag, value in found.items() if math.isnan(value)] == [
        "likelihood/nll",
        "likelihood/delta_nll",
        "divergence/kl_mean",
        "divergence/kl_max",
    ]


# -- activations -------------------------------------------------------------------------------

KINDS = [
    "input_layernorm",
    "post_attention_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
    "self_attn.q_norm",
    "self_attn.k_norm",
]
STATISTICS = {"max_abs", "rms", "kurtosis", "outlier_share", "sigma_share"}
ALONE = {"massive", "max_abs_first", "max_abs_decode"}


def sites_of(layers: int, kinds: list[str] | None = None) -> list[Site]:
    """A model of some layers, and a norm after them."""
    kinds = KINDS if kinds is None else kinds
    inside = [
        Site(f"model.layers.{layer}" + (f".{kind}" if kind != RESIDUAL else ""), kind, layer)
        for layer in range(layers)
        for kind in (RESIDUAL, *kinds)
    ]
    return [*inside, Site("model.norm", "model.norm", None)]


def seen_by(sites: list[Site], *, decode: bool = True) -> dict[Where, Moments]:
    """Something at every site, in every phase and part that there is."""
    found = {}
    for number, site in enumerate(sites):
        parts = [("prefill", "first"), ("prefill", "rest"), ("decode", "rest")]
        for phase, part in parts if decode else parts[:2]:
            found[Where(site, phase, part)] = Moments(4, 1.0, 4.0, 1.0, 8.0, float(number), 1, 1, 1)
    return found


@pytest.mark.parametrize("layers", [1, 2, 12, 30, 31, 32, 80, 126])
def test_at_most_three_hundred_tags(layers: int) -> None:
    sites = sites_of(layers)
    shown = layers_shown(sites)
    tags = activation_tags(seen_by(sites), shown)
    assert len(tags) <= MOST_TAGS == 300
    residual = {tag.split("/")[1] for tag in tags if "residual" in tag}
    assert residual == {f"residual_{layer:02d}" for layer in shown}
    # As many as there is room for: 12 kinds of 5 tags leave 240, which are 30 blocks of 8.
    assert len(shown) == min(layers, 30)


@pytest.mark.parametrize("kinds", [0, 1, 30, 57, 58, 59])
def test_any_number_of_kinds(kinds: int) -> None:
    sites = sites_of(80, [f"kind.{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(kinds)])
    tags = activation_tags(seen_by(sites), layers_shown(sites))
    # What remains beside the kinds is at least one block.
    assert len(tags) <= max(MOST_TAGS, 5 * (kinds + 1) + 8)
    assert any("residual" in tag for tag in tags)


@pytest.mark.parametrize("layers", [30, 31, 45, 60, 80, 126])
def test_layers_that_are_shown_are_spread_evenly(layers: int) -> None:
    shown = sorted(layers_shown(sites_of(layers)))
    assert len(shown) == 30
    assert (shown[0], shown[-1]) == (0, layers - 1)
    gaps = [second - first for first, second in itertools.pairwise(shown)]
    assert max(gaps) - min(gaps) <= 1


def test_layers_without_a_residual_stream_have_none() -> None:
    sites = [site for site in sites_of(4) if site.kind != RESIDUAL]
    assert layers_shown(sites) == set()
    tags = activation_tags(seen_by(sites), set())
    assert {tag.split("/")[1] for tag in tags} == {*KINDS, "model.norm"}
    assert layers_shown([]) == set()


def test_names() -> None:
    tags = activation_tags(seen_by(sites_of(2, ["mlp.down_proj"])), {0, 1})
    groups = {"residual_00", "residual_01", "mlp.down_proj", "model.norm"}
    expected = {f"{name}/{group}" for name in STATISTICS for group in groups}
    expected |= {f"{name}/residual_0{layer}" for name in ALONE for layer in (0, 1)}
    assert set(tags) == expected


def test_the_same_tags_whatever_was_seen() -> None:
    sites = sites_of(80)
    shown = layers_shown(sites)
    original = seen_by(sites)
    broken = {key: Moments(4, math.nan, math.nan, math.nan, math.nan, math.nan) for key in original}
    constant = {key: Moments(4) for key in original}
    backwards = dict(reversed(original.items()))
    expected = activation_tags(original, shown)
    assert activation_tags(backwards, shown) == expected
    for other in (broken, constant):
        assert activation_tags(other, shown).keys() == expected.keys()


def test_windows_alone_have_no_tags_of_generation() -> None:
    sites = sites_of(2)
    tags = activation_tags(seen_by(sites, decode=False), {0, 1})
    both = activation_tags(seen_by(sites), {0, 1})
    assert {tag: value for tag, value in both.items() if "decode" not in tag} == tags
    only = {key: value for key, value in seen_by(sites).items() if key.phase == "decode"}
    assert set(activation_tags(only, {0, 1})) == {
        f"max_abs_decode/residual_0{layer}" for layer in (0, 1)
    }


def test_values_by_hand() -> None:
    block = Site("model.layers.7", RESIDUAL, 7)
    downs = [Site(f"model.layers.{k}.mlp.down_proj", "mlp.down_proj", k) for k in (7, 8)]
    # -1, -1, 1, 1 and 0, 0, 0, 2.
    even = Moments(4, 0.0, 4.0, 0.0, 4.0, 1.0, 0, 0, 3)
    one = Moments(4, 2.0, 4.0, 8.0, 16.0, 2.0, 1, 2, 5)
    seen = {
        Where(block, "prefill", "first"): Moments(1, 900.0, 81e4, 9e8, 9e11, 900.0, 1, 1, 1),
        Where(block, "prefill", "rest"): even,
        Where(block, "decode", "rest"): Moments(1, 50.0, 2500.0, 0.0, 0.0, 50.0, 1, 1, 7),
        Where(downs[0], "prefill", "rest"): even,
        Where(downs[1], "prefill", "rest"): one,
        Where(downs[1], "prefill", "first"): Moments(1, 7.0, 49.0, 0.0, 0.0, 70.0, 1, 1, 1),
        Where(downs[1], "decode", "rest"): Moments(1, 7.0, 49.0, 0.0, 0.0, 80.0, 1, 1, 1),
        Where(Site("model.layers.8", RESIDUAL, 8), "prefill", "rest"): one,
    }
    # Of -1, -1, 1, 1, 0, 0, 0, 2: mean 1/4, variance 15/16, fourth central moment 645/256.
    central = sum((x - 0.25) ** 4 for x in (-1, -1, 1, 1, 0, 0, 0, 2)) / 8
    assert activation_tags(seen, {7}) == pytest.approx(
        {
            "max_abs/residual_07": 1.0,
            "rms/residual_07": 1.0,
            "kurtosis/residual_07": 1.0,
            "outlier_share/residual_07": 0.0,
            "sigma_share/residual_07": 0.0,
            "massive/residual_07": 4,
            "max_abs_first/residual_07": 900.0,
            "max_abs_decode/residual_07": 50.0,
            "max_abs/mlp.down_proj": 2.0,
            "rms/mlp.down_proj": 1.0,
            "kurtosis/mlp.down_proj": central / (15 / 16) ** 2,
            "outlier_share/mlp.down_proj": 1 / 8,
            "sigma_share/mlp.down_proj": 2 / 8,
        },
        rel=1e-12,
    )


def test_a_kind_that_is_called_like_the_residual_stream() -> None:
    site = Site("model.layers.0.residual_mlp.w1", "residual_mlp.w1", 0)
    tags = activation_tags(seen_by([site]), {0})
    assert set(tags) == {f"{name}/residual_mlp.w1" for name in STATISTICS}


# -- weights -----------------------------------------------------------------------------------


def test_weights_by_hand() -> None:
    names = [
        Site(f"model.layers.{k}.mlp.down_proj.weight", "mlp.down_proj.weight", k) for k in (0, 1)
    ]
    norm = Site("model.norm.weight", "model.norm.weight", None)
    even = Moments(4, 0.0, 4.0, 0.0, 4.0, 1.0, 0, 1)
    one = Moments(4, 2.0, 4.0, 8.0, 16.0, 2.0, 1, 2)
    # 0, 0, 0, 2: mean 1/2, variance 3/4, fourth central moment 21/16.
    tags = weight_tags({names[0]: even, names[1]: one, norm: Moments(2, 2.0, 2.0, 2.0, 2.0, 1.0)})
    assert math.isnan(tags.pop("weight_kurtosis/model.norm.weight"))
    assert tags == pytest.approx(
        {
            "weight_max_abs/mlp.down_proj.weight": 2.0,
            "weight_kurtosis/mlp.down_proj.weight": (21 / 16) / (3 / 4) ** 2,
            "weight_outliers/mlp.down_proj.weight": 3,
            "weight_max_abs/model.norm.weight": 1.0,
            "weight_outliers/model.norm.weight": 0,
        },
        rel=1e-12,
    )


def test_a_tensor_of_equal_weights_does_not_hide_others() -> None:
    sites = [Site(f"{k}.norm.weight", "norm.weight", k) for k in range(3)]
    equal, even = Moments(4, 4.0, 4.0, 4.0, 4.0, 1.0), Moments(4, 0.0, 4.0, 0.0, 4.0, 1.0)
    for order in set(itertools.permutations([equal, equal, even])):
        tags = weight_tags(dict(zip(sites, order, strict=True)))
        assert tags["weight_kurtosis/norm.weight"] == 1.0
