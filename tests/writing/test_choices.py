"""What is chosen: the same random numbers for each model, and how near other choices were."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.outliers import Patch
from harness.writing.choices import Choices
from tests.models.families import patch_of
from tests.tiny import tiny_model
from tests.writing.together import GREEDY, SAMPLED, together, variants, write


def choices(rows: int, models: int = 1, **options: Any) -> Choices:
    given = {"dtype": torch.float32, "end_ids": {1}, "temperature": None} | options
    return Choices(rows, models, **given)


def scores_of(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


@pytest.mark.parametrize("models", [1, 2, 5])
@pytest.mark.parametrize("shape", [(1, 7), (4, 260), (3, 5000)])
def test_each_model_draws_what_multinomial_would(shape: tuple[int, int], models: int) -> None:
    probabilities = torch.rand(models, *shape).softmax(-1)
    expected = []
    for own in probabilities:
        torch.manual_seed(4)
        expected.append([torch.multinomial(own, num_samples=1) for _ in range(3)])
    found = choices(models * shape[0], models, temperature=1.0)
    torch.manual_seed(4)
    with found.drawn():
        for step in range(3):
            found(torch.empty(0), probabilities.flatten(0, 1).log())
            drawn = torch.multinomial(probabilities.flatten(0, 1), num_samples=1)
            assert torch.equal(drawn, torch.cat([own[step] for own in expected]))
    torch.multinomial(probabilities[0], num_samples=2)  # as it was


def test_tokens_are_drawn_by_us_from_the_logits_to_the_choice_alone() -> None:
    found, probabilities = choices(2, temperature=1.0), torch.ones(2, 9).softmax(-1)

    def drawn() -> int:
        before = len(found.near())
        torch.multinomial(probabilities, num_samples=1)
        return len(found.near()) - before

    with found.drawn():
        assert drawn() == 0
        found(torch.empty(0), probabilities.log())
        assert drawn() == 1
        assert found.chosen(torch.empty(2, 5), None).tolist() == [False, False]
        assert drawn() == 0
    with found.drawn():
        found(torch.empty(0), probabilities.log())
        with pytest.raises(ValueError, match="not one each"):
            found(torch.empty(0), torch.zeros(3, 9))
    assert drawn() == 0


def test_a_likeliest_token_is_near_another_by_the_size_of_logits() -> None:
    step = 32 * torch.finfo(torch.float32).eps
    rows = scores_of(
        [0.0, 8.0, 8.0],
        [0.0, 8.0, 8.0 - 7.9 * step],
        [0.0, 8.0, 8.0 - 8.5 * step],
        [-2.0, -1.0, -1.0 - 0.9 * step],
        [-torch.inf, 5.0, -torch.inf],
    )
    before = rows.clone()
    found = choices(5)
    assert torch.equal(found(torch.empty(0), rows), before)
    assert found.near() == [[True, True, False, True, False]]
    half = choices(3, dtype=torch.bfloat16)
    half(torch.empty(0), scores_of([8.0, 7.95], [8.0, 7.9], [100.0, 99.5]))
    assert half.near() == [[True, False, True]]


def test_a_draw_is_near_another_by_what_rounding_does_to_quotients() -> None:
    torch.manual_seed(0)
    numbers = torch.empty(1, 2).exponential_()
    for apart, near in ((0.5, True), (1.5, False)):
        # Of these probabilities the first wins by so many epsilons of a logit of 10.
        distance = 10 * 2**-7 / 2.0
        odds = (numbers[0, 0] / numbers[0, 1]) * (1 + apart * distance)
        probabilities = torch.stack([odds, torch.tensor(1.0)])[None] / (1 + odds)
        found = choices(1, dtype=torch.bfloat16, temperature=2.0)
        found(torch.empty(0), scores_of([10.0, 3.0]))
        torch.manual_seed(0)
        with found.drawn():
            assert torch.multinomial(probabilities, num_samples=1).item() == 0
        assert found.near() == [[near]]


def test_rows_with_nothing_to_choose_from_end() -> None:
    nan, inf = torch.nan, torch.inf
    found = choices(5, end_ids={7, 3})
    given = scores_of([1, nan, 3, 4], [1, inf, 3, 4], [-inf] * 4, [1, -inf, 3, 2], [-inf, 0, 1, 2])
    made = found(torch.empty(0), given.clone())
    assert found.broken() == [[True, True, True, False, False]]
    assert made[:3].tolist() == [[-inf, -inf, -inf, 0.0]] * 3
    assert torch.equal(made[3:], given[3:])


def test_nothing_waits_for_a_device() -> None:
    """On the meta device there is nothing to wait for: whoever asked would fail."""
    for temperature in (None, 0.7):
        found = choices(6, 2, temperature=temperature)
        with found.drawn():
            for _ in range(2):
                scores = found(torch.empty(0), torch.empty(6, 9, device="meta"))
                if temperature:
                    torch.multinomial(scores, num_samples=1)
        assert found.steps == 2


@pytest.mark.parametrize("arguments", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("way", ["one", "all"])
def test_near_ties_are_counted_in_the_texts(way: str, arguments: dict[str, Any]) -> None:
    model = tiny_model("llama")
    head = model.lm_head.weight
    with torch.no_grad():
        head[1::2] = head[0::2]  # each token has a twin, which is as likely
    broken = patch_of(model, {"model.layers.0.mlp.down_proj.weight": {0: float("nan")}})
    models = {"original": None, "nothing": Patch(), "broken": broken}
    options = {"executor": together(arguments)} if way == "all" else {}
    found = write(model, models, arguments, end_ids=(), **options)
    for text in found["original"]:
        assert text.choices == len(text.tokens)
        assert text.near == (len(text.tokens) if arguments is GREEDY else 0)
    assert found["nothing"] == found["original"]
    assert {(text.choices, text.near) for text in found["broken"]} == {(0, 0)}


def test_choices_after_the_end_of_a_text_do_not_count() -> None:
    model = tiny_model("llama")
    end = write(model, {"original": None}, end_ids=())["original"][1].tokens[3]
    for texts in write(model, variants(model), end_ids={end}, pad_id=end).values():
        for text in texts:
            assert text.choices == min(10, len(text.tokens) + 1)
