"""The planted outlier: the function is what it was, and yet one entry is found and matters."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from harness.models import Pretrained
from harness.outliers import AbsoluteThreshold, Zero, make_patch, matched_control
from harness.outliers.variants import VariantConfig
from harness.results.schema import Results
from tests.planted import THRESHOLD, Planted, demo_windows, mean_nll, plant
from tests.running import run

CONTROLS = 19  # the fewest that a p-value is given for
FAR_MORE = 20.0  # the text is that of the Python at hand, and with it what controls cost


class Pair(NamedTuple):
    """A model with a planted outlier beside the one that it was made of."""

    original: LlamaForCausalLM
    planted: LlamaForCausalLM
    where: Planted
    windows: Tensor


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    source = Pretrained("demo")
    original = source.load()
    planted = copy.deepcopy(original)
    windows = demo_windows(source.tokenizer)
    yield Pair(original, planted, plant(planted, windows), windows)
    torch.set_num_threads(threads)


def test_the_function_is_bitwise_what_it_was(pair: Pair) -> None:
    with torch.no_grad():
        expected, found = (model(pair.windows).logits for model in (pair.original, pair.planted))
    assert torch.equal(found, expected)
    changed = {
        name
        for name, weight in pair.planted.named_parameters()
        if not torch.equal(weight, pair.original.get_parameter(name))
    }
    assert changed == {pair.where.name, pair.where.other}


def test_the_criterion_finds_it_and_nothing_else(pair: Pair) -> None:
    criterion = AbsoluteThreshold(THRESHOLD)
    assert not make_patch(dict(pair.original.named_parameters()), criterion, Zero()).entries
    patch = make_patch(dict(pair.planted.named_parameters()), criterion, Zero())
    (tensor,) = patch.tensors
    assert (tensor.name, tensor.index.tolist()) == (pair.where.name, [pair.where.index])
    before = pair.original.get_parameter(tensor.name).flatten()[pair.where.index]
    assert tensor.old.item() == before.item() * 2.0**pair.where.power


def test_its_loss_costs_far_more_than_that_of_any_control(pair: Pair) -> None:
    model, windows = pair.planted, pair.windows
    patch = make_patch(dict(model.named_parameters()), AbsoluteThreshold(THRESHOLD), Zero())
    before = mean_nll(model, windows)

    def cost(number: int | None) -> float:
        control = None if number is None else matched_control(patch, model, 0, number, Zero())
        with (control or patch).applied(model):
            return mean_nll(model, windows) - before

    worth = cost(None)
    assert worth == pytest.approx(pair.where.worth, rel=1e-6)
    assert worth > 1e-3
    costs = [abs(cost(number)) for number in range(8)]
    assert max(costs) < worth
    assert 0 < fmean(costs) < worth / FAR_MORE


@pytest.fixture(scope="module")
def results(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What the harness says of the planted model on the text that it was planted for."""
    folder = tmp_path_factory.mktemp("planted")
    source = Pretrained("demo")
    source.save(pair.planted, folder / "model")
    texts = source.tokenizer.batch_decode(pair.windows[:, 1:])
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = VariantConfig(AbsoluteThreshold(THRESHOLD), controls=CONTROLS)
    options = {"variants": {"zeroed": config}}
    return run(folder / "model", path, folder / "logs", model=options, max_length=250).results


def test_the_harness_says_so(pair: Pair, results: Results) -> None:
    zeroed = results.variants["zeroed"]
    assert zeroed.edit is not None
    assert (zeroed.edit.entries, zeroed.edit.by_module_class) == (1, {"Linear": 1})
    assert zeroed.versus_original is not None
    assert zeroed.versus_original.delta_nll == pytest.approx(pair.where.worth, rel=0.02)
    assert zeroed.versus_control is not None
    assert zeroed.versus_control.p_value == 1 / (1 + CONTROLS)
    deltas = [control.versus_original.delta_nll for control in results.controls.values()]
    assert len(deltas) == CONTROLS
    assert fmean(map(abs, deltas)) < zeroed.versus_original.delta_nll / FAR_MORE
