"""The embedded corpus: documentation that every Python installation carries, read at run time.

A document is one topic of the language reference (``pydoc_data.topics``, what ``help("for")``
prints) or the docstrings of one module of the standard library. Nothing is imported but the
topics: modules are read as source, so that no module's side effects are run.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sysconfig
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.errors import ConfigError

SPLITS = ("validation", "test", "train")
"""The splits, in the order in which they claim a paragraph that several of them have."""

SHORTEST_DOCUMENT = 200
"""Documents of fewer characters are left out."""

_SHARE = 0.05
# A salt that leaves both held-out splits more than 100,000 characters, topics as well as modules;
# chosen by sizes alone, before any model was trained.
_SALT = "27"
_LONG_PARAGRAPH = 40
_LEFT_OUT = frozenset({"test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data"})


def documents(split: str) -> list[tuple[str, str]]:
    """Reads the documents of one split.

    Topics and top-level packages are dealt to the splits by a hash of their name, about 5 %
    to validation, 5 % to test and the rest to training, so that a name is in the same split under
    every version of Python. A paragraph of 40 characters or more never stands in two splits:
    validation keeps it first, then test, then training.

    Args:
        split: ``train``, ``validation`` or ``test``.

    Returns:
        Pairs of name (``module:asyncio.events``, ``topic:for``) and text, sorted by name.

    Raises:
        ConfigError: The split is unknown, or this installation has no text for it.
    """
    if split not in SPLITS:
        reason = f"the embedded corpus has {', '.join(sorted(SPLITS))}"
        raise ConfigError("data.splits", split, reason)
    taken: set[str] = set()
    for earlier in SPLITS[: SPLITS.index(split)]:
        for _, text in _raw_documents(earlier):
            taken.update(long_paragraphs(text))
    found = []
    for name, text in _raw_documents(split):
        kept = "\n\n".join(part for part in text.split("\n\n") if part.strip() not in taken)
        if len(kept) >= SHORTEST_DOCUMENT:
            found.append((name, kept + "\n"))
    if not found:
        reason = (
            "this Python carries neither its language reference nor the standard library's source"
        )
        raise ConfigError("data.dataset", "demo", f"{reason}; give a file or a dataset instead")
    return sorted(found)


def split_of(name: str) -> str:
    """Returns the split that the topic or the top-level package ``name`` belongs to.

    A module and its private twin (``decimal`` and ``_pydecimal``) repeat each other and share one.
    """
    key = name.lstrip("_").removeprefix("py")
    digest = hashlib.sha256(f"{_SALT}{key}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return SPLITS[min(int(share / _SHARE), 2)]


def paragraphs(text: str) -> list[str]:
    """Returns the paragraphs of a text, which blank lines part, without outer white space."""
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def long_paragraphs(text: str) -> Iterator[str]:
    """Yields the paragraphs of 40 characters or more, from which a split could be learnt.

    Shorter ones ("Examples:", "See also:") are common phrases.
    """
    return (part for part in paragraphs(text) if len(part) >= _LONG_PARAGRAPH)


def _raw_documents(split: str) -> Iterator[tuple[str, str]]:
    for name, text in _topics():
        if split_of(name) == split:
            yield f"topic:{name}", text
    root = Path(sysconfig.get_path("stdlib"))
    for name, path in modules(root):
        if split_of(name.partition(".")[0]) == split:
            yield f"module:{name}", docstrings(path)


def _topics() -> Iterator[tuple[str, str]]:
    """Yields name and text of each topic, each paragraph only in the shortest that has it.

    Topics nest: ``specialnames`` contains all of ``customization``. Shortest first leaves the inner
    topic whole, and gives the same owner to a paragraph in every version of Python.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        return
    seen: set[str] = set()
    for name, text in sorted(topics.items(), key=lambda item: (len(item[1]), item[0])):
        kept = []
        for part in text.strip("\n").split("\n\n"):
            if part.strip() not in seen:
                seen.add(part.strip())
                kept.append(part)
        yield name, "\n\n".join(kept)


def modules(root: Path, names: Collection[str] | None = None) -> Iterator[tuple[str, Path]]:
    """Yields dotted name and source file of the modules below ``root``, where they have a source.

    Names that are no identifiers (``site-packages``, ``config-3.11-...``) are no modules.

    Args:
        root: A folder of modules and packages.
        names: The top-level ones to read; None: all.
    """
    tops = sorted(root.iterdir()) if root.is_dir() else []
    for top in tops:
        if top.stem in _LEFT_OUT or not top.stem.isidentifier():
            continue
        if names is not None and top.stem not in names:
            continue
        for path in sorted(top.rglob("*.py")) if top.is_dir() else [top]:
            parts = path.relative_to(root).with_suffix("").parts
            if path.suffix == ".py" and not _LEFT_OUT.intersection(parts):
                yield ".".join(parts).removesuffix(".__init__"), path


def docstrings(path: Path) -> str:
    """Returns the docstrings of a source file in source order, joined by blank lines."""
    with warnings.catch_warnings():
        # Old escapes in docstrings of the standard library are not the reader's business.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            return ""
    return "\n\n".join(_walk(tree))


def _walk(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = (ast.get_docstring(node) or "").strip("\n")
        if text:
            yield text
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)
