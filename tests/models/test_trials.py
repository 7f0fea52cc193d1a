"""Models are tried before they are measured, and refused with what they would take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harness.errors import ConfigError
from harness.evaluation.training import Training
from harness.models import Pretrained, try_out
from harness.writing.settings import Generation
from tests.running import run
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer

SIZES = {
    "vocab_size": 260,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
}
ROBERTA = SIZES | {"max_position_embeddings": 66, "is_decoder": True, "pad_token_id": 1}


def save(folder: Path, kind: str, **settings: Any) -> Path:
    config = AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


NARROW = {"vocab_size": 260, "n_embd": 32, "n_head": 4, "n_layer": 1, "n_positions": 64}

# As the authors of each say, and no configuration in the same words.
LIMITED: list[tuple[str, dict[str, Any], int]] = [
    ("roberta", ROBERTA, 64),  # 66 rows, of which the first two are none of the text's
    ("camembert", ROBERTA | {"pad_token_id": 0}, 65),
    ("bert", SIZES | {"max_position_embeddings": 64, "is_decoder": True}, 64),
    ("mpt", {"vocab_size": 260, "d_model": 32, "n_heads": 4, "n_layers": 1, "max_seq_len": 64}, 64),
    ("gptj", NARROW | {"rotary_dim": 4}, 64),
    ("ctrl", NARROW | {"dff": 48}, 64),
    ("opt", SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 64}, 64),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "limit"), LIMITED, ids=[case[0] for case in LIMITED])
def test_a_limit_is_the_longest_row_that_a_model_takes(
    kind: str, settings: dict[str, Any], limit: int, tmp_path: Path
) -> None:
    source = Pretrained(str(save(tmp_path / kind, kind, **settings)))
    assert source.max_positions == limit
    model = source.load()
    with torch.inference_mode():
        model(torch.full((1, limit), 7))
        if kind not in {"mpt", "ctrl"}:  # which count on, to where they were not trained
            with pytest.raises((IndexError, RuntimeError)):
                model(torch.full((1, limit + 1), 7))


def test_speech_models_name_the_positions_of_their_text() -> None:
    source = Pretrained(
        architecture={
            "model_type": "whisper",
            "max_target_positions": 40,
            "is_encoder_decoder": False,
        }
    )
    assert source.max_positions == 40


class Rows:
    """A model that takes rows of some length only, and counts them."""

    def __init__(self, model: PreTrainedModel, most: int) -> None:
        self.lengths: list[int] = []
        self._most = most
        self._forward = model.model.forward
        model.model.forward = self  # type: ignore[method-assign]

    def __call__(self, input_ids: Tensor, **inputs: Any) -> Any:
        self.lengths.append(input_ids.shape[1])
        if input_ids.shape[1] > self._most:
            raise IndexError("index out of range in self\nand more")
        return self._forward(input_ids, **inputs)


@pytest.mark.parametrize("command", ["validate", "fit"])
@pytest.mark.parametrize("most", [8, 30, 63])
def test_a_limit_that_is_not_stated_is_found(
    command: str, most: int, llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    rows = Rows(model, most)
    monkeypatch.setattr(Pretrained, "load", lambda *_: model)
    text = tmp_path / "long.txt"
    text.write_text("the quick brown fox " * 40)
    arguments: dict[str, Any] = {"command": command, "max_length": 64}
    arguments |= {"trainer": {"max_steps": 1}} if command == "fit" else {}
    with pytest.raises(ConfigError) as error:
        run(llama_folder, text, tmp_path / "logs", **arguments)
    assert (error.value.key, error.value.value) == ("data.max_length", 64)
    assert "IndexError: index out of range in self)" in error.value.reason
    assert f"and takes {most}: choose at most as many" in error.value.reason
    assert len(rows.lengths) < 20


def test_what_is_tried_is_one_row_of_the_longest(
    llama_folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    rows = Rows(model, 64)
    monkeypatch.setattr(Pretrained, "load", lambda *_: model)
    options = {"model": {"generation": Generation(max_new_tokens=30)}, "max_length": 24}
    run(llama_folder, texts, tmp_path / "logs", prompts=["The quick"], **options)  # type: ignore[arg-type]
    trials = rows.lengths[: rows.lengths.index(24)]
    assert trials.count(39) == 1  # nine tokens, and thirty to come
    assert all(length <= 8 for length in trials if length != 39)


@pytest.mark.parametrize("positions", [2, 3, 7, 8, 9])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_contexts_may_be_short_and_vocabularies_small(
    family: str, positions: int, tmp_path: Path, texts: Path
) -> None:
    folder = save_tiny(tmp_path / "short", family)
    source = Pretrained(str(folder))
    small = source.config
    small.max_position_embeddings = positions
    small.vocab_size = 3
    small.bos_token_id = small.eos_token_id = small.pad_token_id = None
    with torch.random.fork_rng():
        model = AutoModelForCausalLM.from_config(small).eval()
    assert try_out(source, model, None).vocabulary == 3


def test_a_short_context_is_measured_and_trained(tmp_path: Path, texts: Path) -> None:
    settings = NARROW | {"n_positions": 5, "bos_token_id": 256, "eos_token_id": 257}
    folder = save(tmp_path / "short", "gpt2", **settings)
    assert run(folder, texts, tmp_path / "logs").results.data.max_length == 5
    options: dict[str, Any] = {"model": {"training": Training(warmup_steps=0)}}
    ran = run(folder, texts, tmp_path / "logs", command="fit", trainer={"max_steps": 1}, **options)
    assert ran.trainer.global_step == 1
    assert ran.experiment.model.training


def test_a_model_whose_own_forward_fails_is_refused_with_what_it_said(
    llama_folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    Rows(model, 0)
    monkeypatch.setattr(Pretrained, "load", lambda *_: model)
    with pytest.raises(ConfigError, match="its own forward fails: IndexError: index out") as error:
        run(llama_folder, texts, tmp_path / "logs")
    assert error.value.key == "model.pretrained"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("dtype", "noted"), [("float16", True), ("bfloat16", False)])
def test_float16_on_a_cpu_is_said_to_be_slow(
    dtype: Any, noted: bool, llama_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = Pretrained(str(llama_folder), dtype=dtype)
    try_out(source, source.load(), None)
    assert ("note: float16 is" in capfd.readouterr().err) == noted
