"""The embedded corpus: stable, disjoint splits of text that Python itself carries."""

import ast
import sys
import sysconfig
import time
import types
from pathlib import Path

import pytest

from harness.demo import corpus
from harness.demo.corpus import SPLITS, documents, paragraphs, split_of
from harness.errors import ConfigError

MODULE = '''"""About the module,
in two lines."""

def first(x):
    """First."""

class Thing:
    """A thing.

        Indented further.

    As the first line.
    """

    async def method(self):
        """Method."""
        def inner():
            """Inner."""

def last():
    "\\d"
'''


@pytest.fixture(scope="module")
def splits() -> dict[str, list[tuple[str, str]]]:
    return {split: documents(split) for split in SPLITS}


@pytest.fixture
def small_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of our own, without any topics, all of it in the training split."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", types.SimpleNamespace(topics={}))
    monkeypatch.setattr(corpus, "split_of", lambda name: "train")
    return tmp_path


def test_the_same_documents_every_time(splits):
    assert documents("validation") == splits["validation"]


def test_documents_are_sorted_named_and_not_short(splits):
    for found in splits.values():
        names = [name for name, _ in found]
        assert names == sorted(set(names))
        assert all(name.startswith(("module:", "topic:")) for name in names)
        assert min(len(text) for _, text in found) >= 200


def test_sizes_are_about_ninety_five_five(splits):
    sizes = {split: sum(len(text) for _, text in found) for split, found in splits.items()}
    total = sum(sizes.values())
    assert total > 1_200_000
    assert 0.85 < sizes["train"] / total < 0.95
    assert sizes["validation"] > 60_000
    assert sizes["test"] > 60_000
    assert len(splits["validation"]) >= 15
    assert len(splits["test"]) >= 15


def test_both_kinds_in_every_split(splits):
    for found in splits.values():
        assert {name.partition(":")[0] for name, _ in found} == {"module", "topic"}


def test_packages_stay_together(splits):
    owners: dict[str, set[str]] = {}
    for split, found in splits.items():
        for name, _ in found:
            kind, _, rest = name.partition(":")
            package = rest.partition(".")[0] if kind == "module" else rest
            owners.setdefault(f"{kind}:{package}", set()).add(split)
    assert len(owners) > 100
    assert all(len(found) == 1 for found in owners.values())


def test_no_paragraph_in_two_splits(splits):
    long = {
        split: {part for _, text in found for part in paragraphs(text) if len(part) >= 40}
        for split, found in splits.items()
    }
    assert not long["validation"] & long["test"]
    assert not (long["validation"] | long["test"]) & long["train"]


def test_topics_do_not_repeat_each_other(splits):
    parts = [
        part
        for found in splits.values()
        for name, text in found
        if name.startswith("topic:")
        for part in paragraphs(text)
    ]
    assert len(parts) == len(set(parts))


def test_held_out_paragraphs_are_what_pydoc_prints(splits):
    from pydoc_data.topics import topics

    for name, text in splits["validation"]:
        if name.startswith("topic:"):
            whole = topics[name.removeprefix("topic:")]
            assert all(part in whole for part in paragraphs(text))


def test_docstrings_of_a_known_module_are_there(splits):
    text = next(text for name, text in splits["validation"] if name == "module:textwrap")
    import textwrap

    assert text.startswith((textwrap.__doc__ or "").strip())
    assert "Wrap a single paragraph of text, returning a list of wrapped lines." in text


def test_no_module_is_imported():
    import subprocess

    script = "import sys; from harness.demo.corpus import documents; documents('validation');"
    script += "assert 'difflib' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_validation_split_is_read_quickly():
    begin = time.process_time()
    documents("validation")
    assert time.process_time() - begin < 1.5


@pytest.mark.parametrize(
    ("name", "split"),
    [("difflib", "validation"), ("textwrap", "validation"), ("asyncio", "train"), ("for", "train")],
)
def test_split_depends_on_the_name_alone(name, split):
    assert split_of(name) == split


def test_private_twins_share_a_split():
    for twin, public in [("_pydecimal", "decimal"), ("_pyio", "io"), ("_strptime", "strptime")]:
        assert split_of(twin) == split_of(public)


def test_docstrings_in_source_order(small_library):
    (small_library / "thing.py").write_text(MODULE + f'\ndef f():\n    """{"x" * 200}"""\n')
    expected = [
        "About the module,\nin two lines.",
        "First.",
        "A thing.\n\n    Indented further.\n\nAs the first line.",
        "Method.",
        "Inner.",
        "\\d",
        "x" * 200,
    ]
    assert documents("train") == [("module:thing", "\n\n".join(expected) + "\n")]


def test_what_is_no_module_of_the_library_is_left_out(small_library):
    source = f'"""{"word " * 60}"""\n'
    kept = ["one.py", "_two.py", "pack/__init__.py", "pack/sub/deep.py"]
    left = [
        "test/a.py",
        "pack/tests/b.py",
        "site-packages/c.py",
        "idlelib/d.py",
        "config-3.11/e.py",
    ]
    for name in [*kept, *left]:
        path = small_library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    (small_library / "short.py").write_text('"""Short."""')
    (small_library / "broken.py").write_text("def (:\n")
    (small_library / "binary.py").write_bytes(b"\x00\xff")
    names = [name for name, _ in documents("train")]
    assert names == ["module:_two", "module:one", "module:pack", "module:pack.sub.deep"]


def test_nothing_to_read_is_refused_in_one_line(small_library):
    with pytest.raises(ConfigError, match=r"data\.dataset='demo'") as refused:
        documents("train")
    assert "\n" not in str(refused.value)


def test_a_library_without_sources_still_has_topics(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python311.zip"))
    assert {name.partition(":")[0] for name, _ in documents("validation")} == {"topic"}


def test_an_unknown_split_is_refused():
    with pytest.raises(ConfigError, match="train"):
        documents("dev")


def test_paragraphs():
    assert paragraphs("\n\na\nb\n\n\n  c \n\n") == ["a\nb", "c"]


def test_source_order_agrees_with_line_numbers():
    tree = ast.parse(MODULE.replace("\\d", "Last."))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    ordered = sorted(nodes, key=lambda node: getattr(node, "lineno", 0))
    naive = [ast.get_docstring(node) for node in ordered]
    assert list(corpus._walk(tree)) == naive
