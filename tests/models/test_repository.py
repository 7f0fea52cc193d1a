"""Why a model cannot be had, in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonargparse import Namespace

from harness.cli.paths import make_absolute
from harness.demo import MODEL_FOLDER
from harness.errors import ConfigError
from harness.models.checkpoint import Checkpoint
from harness.models.repository import cause, first_line, locate

KEY = "model.pretrained"


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
    said = cause(outer, "a/b")
    assert says in said
    assert "\n" not in said


def test_an_error_that_says_nothing_gives_its_name() -> None:
    assert cause(KeyError(), "a/b") == "KeyError"


def test_where_a_model_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert locate("demo") == (str(MODEL_FOLDER), None)
    assert locate("~/mine") == (str(tmp_path / "mine"), None)
    assert locate("someone/something") == ("someone/something", None)
    assert locate("gpt2") == ("gpt2", None)
    assert locate("a/b/c.gguf") == ("a/b", "c.gguf")
    assert locate("a/b/in/c.GGUF") == ("a/b", "in/c.GGUF")
    with pytest.raises(ConfigError, match=r"^model\.tokenizer='~/yours': no such folder"):
        Checkpoint("model.tokenizer", "~/yours")


@pytest.mark.parametrize("name", ["part[1]", "a*b", "what?", "~mine", "{a,b}", "a b", "x.gguf"])
def test_a_path_that_exists_is_meant(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    Path("part1").mkdir()  # what the first would match as a pattern
    assert locate(name) == (name, None)
    (Path(name) / "w.gguf").touch()
    assert locate(f"{name}/w.gguf") == (name, "w.gguf")
    Path("w.gguf").touch()
    assert locate("w.gguf") == (".", "w.gguf")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("w.gguf", "no such file"),
        ("folder/w.gguf", "no such file"),
        ("./a/b/w.gguf", "no such file"),
        ("~nobody-of-this-name/w", "no such folder"),
        ("a b", "no such folder"),
        ("x" * 5000 + "!", "no such folder"),
        ("a\0b", "no such folder"),
        ("weights.bin", "a file that is no model"),
    ],
)
def test_what_is_neither_here_nor_an_id_is_refused(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").touch()
    with pytest.raises(ConfigError, match=f"{says}.*; give a hub id, a folder with") as error:
        Checkpoint(KEY, name)
    assert (error.value.key, error.value.value) == (KEY, name)


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ("~mine", "{here}/~mine"),  # here, and no home of a user of that name
        ("part[1]", "{here}/part[1]"),
        ("~nobody-of-this-name/w", "~nobody-of-this-name/w"),
        ("someone/something", "someone/something"),
        ("x" * 5000, "x" * 5000),
    ],
)
def test_a_run_is_replayed_with_the_path_that_was_meant(
    given: str, held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("~mine").mkdir()
    Path("part[1]").mkdir()
    data = {"dataset": "demo", "prompts": "openings"}
    variants = {"a": Namespace(patch=given)}
    model = Namespace(pretrained=given, tokenizer=None, variants=variants, generation=None)
    config = Namespace(model=model, data=Namespace(**data))
    make_absolute(config)
    due = held.format(here=tmp_path)
    assert (config.model.pretrained, config.model.variants["a"]["patch"]) == (due, due)


def test_a_reason_is_one_line_of_bounded_length() -> None:
    said = "Validation error:\n  " + "and more " * 1000 + "\nand a third line"
    assert first_line(ValueError(said)).startswith("Validation error: and more and more")
    assert len(first_line(ValueError(said))) <= 300
