"""Why a model cannot be had, in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.demo import MODEL_FOLDER
from harness.errors import ConfigError
from harness.repository import check_safetensors, locate, refusal


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (
            "GatedRepoError",
            "accept its terms at https://huggingface.co/a/b and run `hf auth",
        ),
        ("RevisionNotFoundError", "no such revision (model.revision)"),
        ("RepositoryNotFoundError", "no such repository on the hub"),
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
        ("SomethingElse", "the first line"),
    ],
)
def test_the_cause_that_the_hub_named_decides(kind: str, says: str) -> None:
    outer = OSError("\n  the first line.\nand a second")
    # Told apart by name: huggingface_hub is not imported for it.
    outer.__cause__ = type(kind, (OSError,), {})("403")
    error = refusal("model.pretrained", "a/b", outer)
    assert str(error).startswith("model.pretrained='a/b': ")
    assert says in str(error)
    assert "\n" not in str(error)


def test_an_error_that_says_nothing_gives_its_name() -> None:
    assert refusal("model.tokenizer", "a/b", KeyError()).reason == "KeyError"


def test_where_a_model_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert locate("model.pretrained", "demo") == str(MODEL_FOLDER)
    assert locate("model.pretrained", "~/mine") == str(tmp_path / "mine")
    assert locate("model.pretrained", "someone/something") == "someone/something"
    with pytest.raises(ConfigError, match=r"^model\.tokenizer='~/yours': no such folder"):
        locate("model.tokenizer", "~/yours")


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no weights"):
        check_safetensors(tmp_path, "mine")
    (tmp_path / "model.bin").touch()
    with pytest.raises(ConfigError, match=r"pickled weights only \(model\.bin\)"):
        check_safetensors(tmp_path, "mine")
    (tmp_path / "model.safetensors").touch()
    check_safetensors(tmp_path, "mine")
