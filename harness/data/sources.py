"""Where text comes from: the embedded corpus, local files, the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.files import file_format, find_files, is_local, read_text
from harness.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset

Rows = Iterator[tuple[str, str]]

_TEXT_TYPES = frozenset({"string", "large_string", "string_view"})


@dataclass(frozen=True)
class TextSource:
    """What names a data set.

    Args:
        dataset: Hub id, ``demo``, or local path(s).
        name: Configuration of a hub data set.
        revision: Branch, tag or commit on the hub.
        text_column: Column that holds the text; None: ``default_column``, or the only column of
            strings.
        default_column: Column that is taken unless another is named.
    """

    dataset: str | list[str]
    name: str | None = None
    revision: str | None = None
    text_column: str | None = None
    default_column: str = "text"

    @property
    def from_hub(self) -> bool:
        """Whether the data set is downloaded."""
        return self.dataset != "demo" and not is_local(self.dataset)

    def rows(self, split: str, split_key: str) -> tuple[Rows, str]:
        """Reads one split.

        Args:
            split: Its name.
            split_key: The configuration key that it was given by, for errors.

        Returns:
            Pairs of name and text, read as they are asked for, and the split that was read:
            ``all`` for local files that have none. A ``.txt`` file is one pair; a row of any
            other format is one pair, named by its number from 0; its text is empty for a null.

        Raises:
            ConfigError: There is no such data set, split or column, or it cannot be read as text.
        """
        if self.dataset == "demo":
            from harness.demo.corpus import SPLITS, documents

            if split not in SPLITS:
                reason = f"the embedded corpus has {', '.join(sorted(SPLITS))}"
                raise ConfigError(split_key, split, reason)
            return iter(documents(split)), split
        if self.from_hub or (self.name is not None and _is_folder(self.dataset)):
            return self._column(self.table(split, split_key)), split
        if self.revision is not None or self.name is not None:
            key = "revision" if self.revision is not None else "name"
            reason = "only a data set of the hub has one; leave it out for local files"
            raise ConfigError(f"data.{key}", self.revision or self.name, reason)
        files, read_split = find_files(self.dataset, split, split_key)
        if self.text_column is not None and all(file_format(path) == "txt" for path in files):
            reason = "a .txt file is one text, without columns; leave it out"
            raise ConfigError("data.text_column", self.text_column, reason)
        return self._file_rows(files), read_split

    def table(self, split: str, split_key: str) -> Dataset:
        """Loads one split of a hub data set, downloading it where no copy is cached.

        Raises:
            ConfigError: It is unknown, gated or out of reach.
        """
        from datasets import load_dataset

        with _refusing(self, split, split_key):
            path = expanduser(str(self.dataset))
            return load_dataset(path, self.name, split=split, revision=self.revision)

    def _file_rows(self, files: list[Path]) -> Rows:
        row = 0
        for kind, group in groupby(files, key=file_format):
            # A file without a byte has no rows, but no columns either, which ``datasets`` wants.
            paths = [path for path in group if path.stat().st_size]
            if not paths:
                continue
            if kind == "txt":
                yield from ((path.name, read_text(path)) for path in paths)
                continue
            for _, text in self._column(_load_files(str(kind), paths)):
                yield str(row), text
                row += 1

    def _column(self, table: Dataset) -> Rows:
        column = _text_column(table, self.text_column, self.default_column)
        batches = (batch[column] for batch in table.select_columns(column).iter(1000))
        for row, text in enumerate(chain.from_iterable(batches)):
            # One null among a million rows is no reason to refuse the others.
            yield str(row), text or ""


def _is_folder(dataset: str | list[str]) -> bool:
    return isinstance(dataset, str) and Path(dataset).expanduser().is_dir()


def _load_files(kind: str, paths: list[Path]) -> Dataset:
    import datasets

    # pandas takes cells such as "NA" and "None", and empty ones, for missing values.
    options = {"keep_default_na": False} if kind == "csv" else {}
    files = [str(path) for path in paths]
    source = TextSource(files[0] if len(files) == 1 else files)
    with _quietly(), _refusing(source, "train", "data.dataset"):
        return datasets.load_dataset(kind, data_files=files, split="train", **options)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps ``datasets`` from showing bars for local files and from logging what we raise."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    try:
        datasets.disable_progress_bars()
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if shown:
            datasets.enable_progress_bars()


def _text_column(table: Dataset, wanted: str | None, default: str) -> str:
    types = {name: _type(kind) for name, kind in table.features.items()}
    strings = [name for name, kind in types.items() if kind in _TEXT_TYPES]
    there = f"there are {', '.join(f'{name} ({kind})' for name, kind in types.items())}"
    if wanted is None:
        if default in strings or len(strings) == 1:
            return default if default in strings else strings[0]
        reason = "name the column of the text" if strings else "no column holds text"
        raise ConfigError("data.text_column", None, f"{reason}; {there}")
    if wanted not in types:
        raise ConfigError("data.text_column", wanted, f"no such column; {there}")
    if wanted not in strings:
        raise ConfigError("data.text_column", wanted, f"does not hold text; {there}")
    return wanted


def _type(feature: object) -> str:
    """A column's type in a word or two; ``datasets`` calls that of several Json."""
    mixed = type(feature).__name__ == "Json"
    return "of mixed types" if mixed else str(getattr(feature, "dtype", feature))


@contextmanager
def _refusing(source: TextSource, split: str, split_key: str) -> Iterator[None]:
    """Tells failures of ``datasets`` in one line."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, RuntimeError, StopIteration, DatasetsError) as error:
        raise _refusal(error, source, split, split_key) from error


def _refusal(error: Exception, source: TextSource, split: str, split_key: str) -> ConfigError:
    cause = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    told = " ".join(str(error).split())
    why = " ".join(str(cause).split()) or told
    if isinstance(cause, StopIteration) or "corresponds to no data" in why:
        why = "no rows in it"
    dataset = ("data.dataset", source.dataset)
    if "gated" in told:
        reason = "a gated data set: accept its terms on its page, then log in with `hf auth login`"
        return ConfigError(*dataset, reason)
    if isinstance(error, ConnectionError):
        reason = "the hub cannot be reached and there is no cached copy; go online or give a file"
        return ConfigError(*dataset, reason)
    if told.startswith("Revision"):
        return ConfigError("data.revision", source.revision, "no such branch, tag or commit")
    if told.startswith("Unknown split"):
        return ConfigError(split_key, split, f"there are {told.partition('one of ')[2]}")
    if told.startswith(("BuilderConfig", "Config name")):
        return ConfigError("data.name", source.name, told)
    if "doesn't exist on the Hub" in told:
        reason = "no such file here and no such data set on the hub; for a private one log in with"
        return ConfigError(*dataset, f"{reason} `hf auth login`")
    return ConfigError(*dataset, f"cannot be read: {why}")
