"""Where values that are not finite arise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from harness.probes import first_nonfinite
from tests.tiny import tiny_model

IDS = torch.arange(12).reshape(2, 6)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "mixtral", "opt"])
def test_a_sound_model_raises_no_alarm(family: str) -> None:
    model = tiny_model(family)
    mask = torch.ones_like(IDS)
    mask[1, 3:] = 0
    assert first_nonfinite(model, lambda: model(IDS, attention_mask=mask)) is None
    assert hooks(model) == 0


@pytest.mark.parametrize("kwargs", ["positional", "named"])
def test_a_mask_is_no_value(kwargs: str) -> None:
    model = tiny_model("llama")
    model.set_attn_implementation("eager")
    mask = torch.full((2, 1, 6, 6), -torch.inf).triu(1)
    assert first_nonfinite(model, lambda: model(IDS, attention_mask=mask)) is None
    nn.init.constant_(model.model.layers[1].self_attn.v_proj.weight, torch.nan)

    def run() -> object:
        if kwargs == "named":
            return model(IDS, attention_mask=mask)
        return model(IDS, mask)

    found = first_nonfinite(model, run)
    assert found == "model.layers.1.self_attn.v_proj (its weight is not finite)"


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama", "model.embed_tokens.weight"),
        ("llama", "model.layers.1.mlp.down_proj.weight"),
        ("llama", "model.norm.weight"),
        ("llama", "lm_head.weight"),
        ("gpt2", "transformer.h.0.attn.c_attn.bias"),
        ("mixtral", "model.layers.0.mlp.experts.down_proj"),
    ],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_parameter_that_is_not_finite_is_named(family: str, name: str, value: float) -> None:
    model = tiny_model(family)
    model.get_parameter(name).data.flatten()[:64] = value
    module, _, parameter = name.rpartition(".")
    found = first_nonfinite(model, lambda: model(IDS))
    assert found == f"{module} (its {parameter} is not finite)"


def test_two_parameters_are_both_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    nn.init.constant_(model[0].weight, torch.nan)
    nn.init.constant_(model[0].bias, torch.inf)
    found = first_nonfinite(model, lambda: model(torch.ones(1, 2)))
    assert found == "0 (its weight and bias are not finite)"


class Between(nn.Module):
    """Does something of its own between two modules."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Identity(), nn.Identity()
        self.between = between

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
        return x, {"states": [self.second(self.between(self.first(x)))]}


def test_what_arises_between_modules_is_the_outer_modules() -> None:
    model = nn.Sequential(nn.Identity(), Between(lambda x: x * 1e38 * 1e38))
    assert first_nonfinite(model, lambda: model(torch.ones(2))) == "1"
    model = nn.Sequential(nn.Identity(), Between(lambda x: x / 2))
    assert first_nonfinite(model, lambda: model(torch.ones(2))) is None


def test_minus_infinity_among_values_is_not_taken_for_a_mask() -> None:
    model = nn.Sequential(nn.Identity(), Between(lambda x: -x * 1e38 * 1e38), nn.Identity())
    for values in ([0.5, 1.0], [1e-40, 1.0]):
        assert first_nonfinite(model, lambda values=values: model(torch.tensor(values))) == "1"


def test_attention_that_overflows_is_not_blamed_on_its_output_projection() -> None:
    model = tiny_model("gpt2", dtype=torch.float16)
    model.set_attn_implementation("eager")
    attention = model.transformer.h[1].attn
    attention.c_attn.weight.data[:, :64] *= 2000
    assert first_nonfinite(model, lambda: model(IDS)) == "transformer.h.1.attn"


def test_the_model_as_a_whole_has_its_class_for_a_name() -> None:
    model = Between(lambda x: x / 0)
    assert first_nonfinite(model, lambda: model(torch.ones(2))) == "Between"


def test_what_was_handed_to_the_model_is_seen_where_it_enters() -> None:
    model = nn.Sequential(nn.Identity(), nn.Identity())
    assert first_nonfinite(model, lambda: model(torch.tensor([torch.nan]))) == "0"


def test_the_hooks_are_gone_after_an_error() -> None:
    model = tiny_model("llama")
    with pytest.raises(KeyError):
        first_nonfinite(model, lambda: {}["nothing"])
    assert hooks(model) == 0
