"""From rows to figures: samples, and what random selections in a real model are said to do."""

from __future__ import annotations

import math
from statistics import fmean

import numpy as np
import pytest
import torch

from harness.evaluation.design import Resampling, Subject
from harness.evaluation.effects import effects
from harness.outliers import Patch, TopFraction, Zero, make_patch, matched_control
from harness.results.schema import EditRecord, VariantRecord
from harness.scoring.rows import Tally, WindowRow
from harness.statistics.intervals import ratio_intervals
from tests.tiny import tiny_model

NOTHING = Patch()
EDIT = EditRecord("criterion", "Zero()", 3, 0.1, {"Linear": 3}, None, False)


def tally(nll: list[float], tokens: list[int], units: list[int]) -> Tally:
    columns = zip(range(len(nll)), units, tokens, nll, strict=True)
    return Tally([WindowRow(w, unit, t, n, 0.01 * t, t) for w, unit, t, n in columns])


def measured(
    rows: dict[str, list[float]],
    tokens: list[int],
    units: list[int] | None = None,
    samples: list[int] | None = None,
) -> dict[str, VariantRecord]:
    """Figures of variants and, named ``<variant>-control-<i>``, their controls."""
    units = list(range(len(tokens))) if units is None else units
    tallies = {name: tally(nll, tokens, units) for name, nll in rows.items()}
    names = [name for name in rows if name != "original"]
    subjects = [
        Subject(name, NOTHING, name.partition("-")[0] if "-control-" in name else None, edit=EDIT)
        for name in names
    ]
    return effects(tallies, subjects, None, None, Resampling(500), samples)


def made_rows(units: int, controls: int, seed: int = 0) -> tuple[dict[str, list[float]], list[int]]:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(20, 400, units)
    base = tokens * rng.normal(3, 0.5, units)
    names = ["original", "zeroed", *(f"zeroed-control-{i}" for i in range(controls))]
    effects = [0.0, 0.2, *rng.normal(0.01, 0.02, controls)]
    noise = rng.exponential(0.1, (len(names), units)) - 0.1
    rows = base + tokens * (np.array(effects)[:, None] + noise)
    return dict(zip(names, rows.tolist(), strict=True)), tokens.tolist()


def alike(found: VariantRecord, expected: VariantRecord) -> None:
    """The same figures, but for rounding; the divergence is made up."""
    for part in ("likelihood", "versus_original", "versus_control"):
        ours, theirs = getattr(found, part), getattr(expected, part)
        assert (ours is None) is (theirs is None)
        for name, value in vars(theirs).items() if theirs is not None else ():
            wanted = None if value is None else pytest.approx(value, rel=1e-9)
            assert getattr(ours, name) == wanted, (part, name)


def test_equal_documents_tell_what_one_of_them_tells_and_totals_count_each() -> None:
    rows, tokens = made_rows(10, 3)
    once = measured(rows, tokens)
    copies = list(range(10)) * 4  # every document four times over, in another place
    many = measured(
        {name: [nll[i] for i in copies] for name, nll in rows.items()},
        [tokens[i] for i in copies],
        samples=copies,
    )
    alike(many["zeroed"], once["zeroed"])
    alike(many["zeroed-control-1"], once["zeroed-control-1"])
    # Counted as forty, they would seem to tell twice as much.
    apart = measured(
        {name: [nll[i] for i in copies] for name, nll in rows.items()},
        [tokens[i] for i in copies],
    )
    ends = [m["zeroed"].versus_original.delta_nll_ci95 for m in (apart, many)]
    narrow, wide = (high - low for low, high in ends)
    assert narrow < 0.6 * wide


def test_a_document_that_is_there_twice_weighs_twice() -> None:
    rows, tokens = made_rows(8, 0)
    samples = [0, 1, 2, 3, 4, 5, 6, 0]
    found = measured(rows, tokens, samples=samples)["zeroed"]
    total = (sum(rows["zeroed"]) - sum(rows["original"])) / sum(tokens)
    assert found.versus_original.delta_nll == pytest.approx(total, rel=1e-12)
    assert found.likelihood.nll == pytest.approx(sum(rows["zeroed"]) / sum(tokens), rel=1e-12)


def test_windows_of_one_document_are_one_unit_in_whatever_order() -> None:
    rows, tokens = made_rows(9, 2)
    split = {
        name: [part for nll in values for part in (nll / 4, 3 * nll / 4)]
        for name, values in rows.items()
    }
    halves = [part for count in tokens for part in (count - count // 2, count // 2)]
    units = [unit for unit in range(9) for _ in range(2)]
    backwards = {name: values[::-1] for name, values in split.items()}
    expected = measured(rows, tokens)["zeroed"]
    alike(measured(split, halves, units)["zeroed"], expected)
    alike(measured(backwards, halves[::-1], units[::-1])["zeroed"], expected)


def test_of_one_text_nothing_is_claimed() -> None:
    rows, tokens = made_rows(5, 19)
    found = measured(rows, tokens, samples=[0] * 5)["zeroed"]
    assert found.versus_original.delta_nll is not None
    assert found.versus_original.delta_nll_ci95 is found.versus_original.p_value is None
    assert found.versus_control.excess_delta_nll is not None
    assert found.versus_control.excess_ci95 is found.versus_control.delta_nll_ci95 is None
    assert found.versus_control.p_value == 1 / 20  # a rank among draws, on this text


def test_the_smallest_and_largest_change_of_the_controls() -> None:
    rows, tokens = made_rows(30, 4)
    found = measured(rows, tokens)
    deltas = [
        control.versus_original.delta_nll for name, control in found.items() if "-control-" in name
    ]
    against = found["zeroed"].versus_control
    assert (against.lowest, against.highest) == pytest.approx((min(deltas), max(deltas)))
    assert against.delta_nll == pytest.approx(fmean(deltas))
    assert against.lowest < against.delta_nll < against.highest
    assert against.importance_ratio is None  # of four


def test_figures_do_not_depend_on_the_other_variants() -> None:
    rows, tokens = made_rows(40, 3)
    alone = {name: nll for name, nll in rows.items() if "control" not in name}
    more = rows | {"other": rows["zeroed-control-2"]}
    everything, little = measured(more, tokens), measured(alone, tokens)
    assert everything["zeroed"].versus_original == little["zeroed"].versus_original
    assert everything["other"].versus_control is None
    same = everything["zeroed-control-2"].versus_original
    assert everything["other"].versus_original == same


def test_without_variants_there_is_the_original() -> None:
    found = measured({"original": [3.0, 4.0]}, [1, 1])
    assert list(found) == ["original"]
    assert found["original"].likelihood.nll == 3.5


# -- random selections in a model ------------------------------------------------------------------

SELECTIONS = 160
DOCUMENTS, LENGTH = 24, 48


@pytest.fixture(scope="module")
def selections() -> np.ndarray:
    """Nats per document that zeroing random entries changes in a model, [SELECTIONS, DOCUMENTS].

    They are the controls that the harness draws for a variant; each may stand for the variant.
    """
    model = tiny_model("llama")
    weights = {name: w for name, w in model.named_parameters() if w.dim() > 1}
    patch = make_patch(weights, TopFraction(0.02), Zero())
    ids = torch.randint(65, 71, (DOCUMENTS, LENGTH), generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():

        def nll() -> np.ndarray:
            logits = model(ids).logits[:, :-1].double().transpose(1, 2)
            losses = torch.nn.functional.cross_entropy(logits, ids[:, 1:], reduction="none")
            return losses.sum(1).numpy()

        base, changes = nll(), []
        for number in range(SELECTIONS):
            with matched_control(patch, model, 0, number, Zero()).applied(model):
                changes.append(nll() - base)
    torch.set_num_threads(threads)
    return np.array(changes)


@pytest.mark.parametrize("controls", [3, 19])
@pytest.mark.parametrize("documents", [8, DOCUMENTS])
def test_random_selections_in_a_model_are_called_special_as_often_as_is_said(
    controls: int, documents: int, selections: np.ndarray
) -> None:
    rng = np.random.default_rng(0)
    trials, surprising, excluded, of_documents = 250, 0, 0, 0
    tokens = [LENGTH - 1] * documents
    for _ in range(trials):
        drawn = rng.choice(SELECTIONS, controls + 1, replace=False)
        texts = rng.choice(DOCUMENTS, documents, replace=False)
        names = ["zeroed", *(f"zeroed-control-{i}" for i in range(controls))]
        rows = {"original": [0.0] * documents}
        rows |= {
            name: selections[number, texts].tolist()
            for name, number in zip(names, drawn, strict=True)
        }
        against = measured(rows, tokens)["zeroed"].versus_control
        low, high = against.excess_ci95
        assert math.isfinite(low)
        excluded += low > 0 or high < 0
        changes = selections[drawn][:, texts]
        (alone,) = ratio_intervals([changes[0] - changes[1:].mean(0)], tokens)
        of_documents += alone.excludes_zero()
        surprising += against.p_value is not None and against.p_value <= 0.05
    # Three standard errors of 5 % in 250 trials are 4.1 %.
    assert 1 <= 100 * excluded / trials <= 9.2
    # With the controls taken for all there are, one in three would be "more than chance".
    assert 100 * of_documents / trials > 30
    if controls == 19:
        assert 1 <= 100 * surprising / trials <= 9.2
