"""What cannot be divided among processes is refused before any weight is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from harness.errors import ConfigError
from harness.models import Pretrained, Sharding
from harness.models.sharding import check_strategy
from tests.tiny import FAMILIES, save_tiny


@pytest.fixture(autouse=True)
def _no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)


def refused(source: Pretrained, sharding: Sharding) -> str:
    with pytest.raises(ConfigError) as error:
        source.check(sharding)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_of_either_kind_is_taken(llama_folder: Path):
    for sharding in (Sharding(2, 1), Sharding(1, 2), Sharding(3, 2)):
        Pretrained(str(llama_folder)).check(sharding)


def test_without_a_mesh_nothing_is_divided():
    assert Sharding.of(None) is None


def test_heads_are_divided_evenly(llama_folder: Path):
    said = refused(Pretrained(str(llama_folder)), Sharding(1, 4))
    assert said.startswith("trainer.strategy.tensor_parallel_size=4: must divide the 2 heads")
    assert "num_key_value_heads" in said


def test_one_process_or_several(llama_folder: Path):
    source = Pretrained(str(llama_folder), device_map="auto")
    assert refused(source, Sharding(2, 1)).startswith("model.device_map='auto': spreads")


def test_random_weights(llama_folder: Path):
    source = Pretrained(architecture={"model_type": "llama"})
    assert refused(source, Sharding(2, 1)).startswith("model.architecture=")


def test_kinds_that_transformers_has_no_plan_for(tmp_path: Path):
    source = Pretrained(str(save_tiny(tmp_path / "opt", "opt")))
    said = refused(source, Sharding(1, 2))
    assert said.startswith("trainer.strategy.tensor_parallel_size=2: transformers has no plan")
    assert "opt" in FAMILIES


def test_files_that_each_process_would_read_as_a_whole(tmp_path: Path, llama_folder: Path):
    pytest.importorskip("gguf")
    from tests.gguf_file import save_gguf

    path = save_gguf(tmp_path / "tiny.gguf")
    assert "is a GGUF file" in refused(Pretrained(str(path)), Sharding(1, 2))


def test_another_device_than_the_machines_own(llama_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    said = refused(Pretrained(str(llama_folder)), Sharding(2, 1))
    assert said.startswith("trainer.accelerator='cpu': a divided model lies on the cuda")


def test_strategies_that_divide_a_model_otherwise():
    check_strategy(DDPStrategy())
    check_strategy(None)
    with pytest.raises(ConfigError, match=r"trainer\.strategy='FSDPStrategy'.*ModelParallel"):
        check_strategy(FSDPStrategy())


def test_a_placement_within_one_process_and_several_of_them():
    class Several:
        world_size = 2

    check_strategy(Several())
    check_strategy(DDPStrategy(), "auto")
    with pytest.raises(ConfigError, match=r"model\.device_map=.* within one process"):
        check_strategy(Several(), "auto")
