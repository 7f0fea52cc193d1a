"""Kernels that do not run somewhere, or find something else there, are left alone."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from harness.kernels import where
from harness.probes import Massive, Thresholds
from harness.probes import choosing as probing
from harness.probes.operations import ByOperations
from harness.scoring import tokens
from tests.kernels.device import DEVICE

HERE = torch.device(DEVICE, 0) if DEVICE == "cuda" else torch.device("cpu")
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
installed = find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not installed, reason="Triton is not installed")


@pytest.fixture
def _tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, "can_be_tried", lambda device: True)
    where.by_triton.cache_clear()


@pytest.mark.usefixtures("_tried_anew")
def test_each_type_is_tried_once() -> None:
    tried: list[torch.dtype] = []

    def trial(device: torch.device, dtype: torch.dtype) -> bool:
        tried.append(dtype)
        return True

    for dtype in FLOATS * 2:
        assert where.by_triton(HERE, dtype, trial)
    assert tried == FLOATS


@pytest.mark.usefixtures("_tried_anew")
def test_what_fails_is_said_and_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(device: torch.device, dtype: torch.dtype) -> bool:
        raise RuntimeError("no such instruction\nand much more")

    assert not where.by_triton(HERE, torch.float32, fails)
    said = capsys.readouterr().err
    assert "RuntimeError: no such instruction" in said
    assert "much more" not in said
    assert not where.by_triton(HERE, torch.float32, lambda device, dtype: False)
    assert "something else" in capsys.readouterr().err


def test_on_the_cpu_nothing_is_tried() -> None:
    def fails(device: torch.device, dtype: torch.dtype) -> bool:
        raise AssertionError

    assert not where.by_triton(torch.device("cpu"), torch.float32, fails)
    found = probing.looks(Thresholds(), Massive(), torch.device("cpu"), torch.float32)
    assert isinstance(found, ByOperations)


@needs_triton
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_kernels_agree(dtype: torch.dtype) -> None:
    assert tokens.kernels_agree(HERE, dtype)


@needs_triton
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_kernels_that_find_something_else_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.kernels import triton_massive
    from harness.probes import table

    monkeypatch.setattr(table, "_STRETCHES", 4)
    table._plan.cache_clear()
    assert probing.kernels_agree(HERE, torch.bfloat16)
    monkeypatch.setattr(triton_massive, "count_massive", lambda *_: None)
    assert not probing.kernels_agree(HERE, torch.bfloat16)
    table._plan.cache_clear()
