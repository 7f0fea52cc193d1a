"""The data module: from configuration keys to loaders of window batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from harness.base.console import note
from harness.data.checks import check_choice, check_whole
from harness.data.corpus import Corpus, build_corpus, resolve_bos
from harness.data.documents import Detokenizer, Document, Join, make_documents
from harness.data.plan import LIMITS, RankBatches, ShuffledBatches, check_interval, take_share
from harness.data.prompts import OPENINGS, PromptBatch, Prompts, build_prompts
from harness.data.sources import Reading, TextSource
from harness.data.token_source import TokenSource
from harness.data.windows import BosPolicy, Kind, check_lengths, choose_layout
from harness.errors import ConfigError

Loader = DataLoader[Any]

SPLITS = {"fit": "train", "validate": "validation", "test": "test", "predict": "validation"}
"""The split that each command reads unless told otherwise."""


class TextDataModule(LightningDataModule):
    """Text, cut into windows that are each scored once.

    Args:
        source: The model's side, a `TokenSource`; the command line links it.
        dataset: Hub id, `demo` for the embedded corpus, or local files: a path, a pattern such as
            `texts/*.txt`, a folder, or a list of them. A `.txt` or `.md` file is one document; in
            `.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet` and what `save_to_disk` wrote each row is
            one, empty where it holds null. A local file is read whole by any command; in a folder
            where every file is named after a split those of the split are read.
        name: Configuration of a hub data set, such as `wikitext-2-raw-v1`.
        revision: Branch, tag or commit of a hub data set.
        text_column: Column that holds the text. Default: `text`, or the only column of strings
            where none holds lists or mappings; a `.csv` or `.tsv` file must name it.
        splits: Split that each command reads, by command: `fit`, `validate`, `test`, `predict`.
            Commands that are left out keep their default.
        max_length: Most ids the model sees at once, a BOS included, at least 2. Default: all
            positions that the model has, but no more than 2048.
        stride: Tokens from one window to the next, from 1 to `max_length`; what a window shares
            with the one before is context and not scored again. Default: `max_length`. Not for
            `chunks`.
        join: `document` scores each document by itself and skips empty ones; `corpus` joins them
            with blank lines, empty ones too, and scores the whole.
        windows: `rolling` scores every token and fills each window with context, as
            lm-evaluation-harness does; `strided` moves a window of `max_length` ids on by `stride`,
            as the perplexity page of transformers does; `chunks` cuts pieces of `max_length` ids
            and drops the remainder, as GPTQ does.
        bos: Where a BOS (for want of one, EOS) stands: in front of each `window`, once at the
            `start` of each document or of the joined corpus, or `none`; it is never scored. `auto`:
            `window` if the tokenizer adds one by itself, else `start` if it has one. Special tokens
            that the tokenizer would add are left out.
        detokenizer: `wikitext` undoes the spacing of WikiText before scoring, as
            lm-evaluation-harness does; words and bytes are counted before it.
        batch_size: Windows per batch.
        max_documents: Most documents to read (with `join: corpus`: rows), from the first on.
            Default: all.
        prompts: Texts that the models continue, where `model.generation` asks for it: a list, a
            file (`.txt`: one a line; `.jsonl`, `.json`, `.csv`, `.parquet`, ...: the column
            `prompt`, or the only one of strings), or `openings`: the first 16 tokens of up to 64
            paragraphs, spread evenly over the evaluated text.
        chat_template: Wrap each prompt as a user's message by the tokenizer's chat template.
        prompt_batch_size: Prompts per batch.

    Raises:
        ConfigError: A value that is out of range.
    """

    def __init__(
        self,
        source: Any,
        dataset: str | list[str] = "demo",
        name: str | None = None,
        revision: str | None = None,
        text_column: str | None = None,
        splits: dict[str, str] = SPLITS,
        max_length: int | None = None,
        stride: int | None = None,
        join: Join = "document",
        windows: Kind = "rolling",
        bos: BosPolicy = "auto",
        detokenizer: Detokenizer = "none",
        batch_size: int = 8,
        max_documents: int | None = None,
        prompts: str | list[str] | None = None,
        chat_template: bool = False,
        prompt_batch_size: int = 32,
    ) -> None:
        super().__init__()
        if not isinstance(splits, dict):
            raise ConfigError("data.splits", splits, "must be a mapping, such as {test: train}")
        for command in splits:
            check_choice("splits", command, SPLITS)
        check_choice("join", join, get_args(Join))
        check_choice("windows", windows, get_args(Kind))
        check_choice("bos", bos, get_args(BosPolicy))
        check_choice("detokenizer", detokenizer, get_args(Detokenizer))
        check_whole(2, max_length=max_length)
        check_whole(1, stride=stride, batch_size=batch_size, max_documents=max_documents)
        check_whole(1, prompt_batch_size=prompt_batch_size)
        check_lengths(windows, max_length, stride)
        # Not annotated as the protocol above: jsonargparse takes no object for one with properties.
        self.source: TokenSource = source
        self.text = TextSource(dataset, name, revision, text_column)
        self.splits = SPLITS | splits
        self.max_length = max_length
        self.stride = stride
        self.join: Join = join
        self.windows: Kind = windows
        self.bos: BosPolicy = bos
        self.detokenizer: Detokenizer = detokenizer
        self.batch_size = batch_size
        self.max_documents = max_documents
        self.prompts = prompts
        self.chat_template = chat_template
        self.prompt_batch_size = prompt_batch_size
        self._corpora: dict[str, Corpus] = {}
        self._prompts: dict[str, Prompts] = {}
        self._read: dict[tuple[str, str], tuple[list[Document], Reading]] = {}
        self._said: set[str] = set()
        self._shares: dict[str, float] = {}

    def prepare_data(self) -> None:
        """Downloads a hub data set, on one process, so that the others find it cached."""
        if self.text.from_hub and self.trainer is not None and self.trainer.state.fn is not None:
            for command in self._commands(self.trainer.state.fn.value):
                self._reading(command)

    def setup(self, stage: str) -> None:
        """Reads, tokenizes and cuts the text of a command; what it refuses, no weights wait for.

        Args:
            stage: ``fit`` (training text, and validation text unless validation is turned off),
                ``validate`` or ``test``; ``predict`` has prompts alone.

        Raises:
            ConfigError: The text cannot be had, or is not what the configuration says.
        """
        # Lightning passes a member of an enumeration, which would show as such in errors.
        stage = str(getattr(stage, "value", stage))
        commands = self._commands(stage)
        new = [command for command in commands if command not in self._corpora]
        self._corpora |= {command: self._build(command) for command in new}
        if stage == "fit":
            self._prompts.clear()  # validation in between has windows alone
        elif stage not in self._prompts:
            self._prepare_prompts(stage)
        self._read.clear()
        # What has no splits holds the training text, whichever split that was taken from.
        unsplit = "validate" in commands and self.corpus("validate").record.split == "all"
        if "fit" in new and unsplit:
            whole = f"data.dataset={self.text.dataset!r} is read whole, so validation runs on the"
            self._say(f"{whole} training text; give a folder with train and validation files")
        if share := take_share(self.trainer, stage, self._steps(stage)):
            self._shares[stage] = share

    def teardown(self, stage: str) -> None:
        """Gives the trainer back the share of the batches that was taken from it."""
        if stage in self._shares:
            setattr(self.trainer, LIMITS[stage], self._shares.pop(stage))

    def corpus(self, command: str) -> Corpus:
        """Returns what ``setup`` has made ready for ``fit``, ``validate`` or ``test``."""
        return self._corpora[command]

    def prompt_texts(self, command: str) -> list[str]:
        """Returns the prompts of a command; none where no text is generated."""
        return self._prompts[command].texts if command in self._prompts else []

    def padded_prompts(self, command: str) -> PromptBatch | None:
        """Returns the first batch of a command's prompts that has padding; None where none has."""
        return self._prompts[command].padded() if command in self._prompts else None

    def longest_row(self) -> int:
        """Returns the most ids that the model will see at once, of a window or a prompt."""
        parts: list[Corpus | Prompts] = [*self._corpora.values(), *self._prompts.values()]
        return max(part.longest for part in parts)

    def train_dataloader(self) -> Loader:
        """Returns the training batches: chunks in random order, by the seed of torch.

        Raises:
            ConfigError: The text is too short for a single batch.
        """
        corpus = self.corpus("fit")
        count = len(corpus.windows)
        batches = ShuffledBatches(count, self.batch_size, *self._place())
        if not len(batches):
            size = f"{count} windows of {corpus.record.max_length} ids"
            reason = f"the training text has only {size}; choose a smaller batch or max_length"
            raise ConfigError("data.batch_size", self.batch_size, reason)
        check_interval(self.trainer, len(batches))
        return DataLoader(corpus.rows, batch_size=None, sampler=batches)

    def val_dataloader(self) -> Loader | list[Loader]:
        """Returns this process's share of the validation plan: windows, then prompts if any."""
        return self._planned("validate")

    def test_dataloader(self) -> Loader | list[Loader]:
        """Returns this process's share of the test plan: windows, then prompts if any."""
        return self._planned("test")

    def predict_dataloader(self) -> Loader | list[Loader]:
        """Returns this process's share of the prompts."""
        return self._planned("predict")

    def _planned(self, command: str) -> Loader | list[Loader]:
        loaders: list[Loader] = []
        for part in (self._corpora.get(command), self._prompts.get(command)):
            if part is not None:
                some = max(1, int(len(part.plan) * self._shares.get(command, 1.0)))
                batches = RankBatches(part.plan[:some], *self._place())
                # The sampler yields whole batches, which the data set turns into tensors.
                loaders.append(DataLoader(part.rows, batch_size=None, sampler=batches))
        return loaders[0] if len(loaders) == 1 else loaders

    def _say(self, line: str) -> None:
        """Says a line once, by one process."""
        if line not in self._said and self._place()[0] == 0:
            note(line)
        self._said.add(line)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _steps(self, command: str) -> int:
        return len(self._corpora[command].plan) if command in self._corpora else 0

    def _commands(self, stage: str) -> tuple[str, ...]:
        if stage == "fit" and (self.trainer is None or self.trainer.limit_val_batches != 0):
            return ("fit", "validate")
        return (stage,) if stage != "predict" else ()

    def _reading(self, command: str) -> Reading:
        try:
            return self.text.read(self.splits[command])
        except ConfigError as error:
            if error.key != "data.splits":
                raise
            raise ConfigError(f"data.splits.{command}", error.value, error.reason) from error

    def _documents(self, command: str, join: Join) -> tuple[list[Document], Reading]:
        if (command, join) not in self._read:
            reading = self._reading(command)
            documents = make_documents(
                reading.rows, join=join, detokenizer=self.detokenizer, limit=self.max_documents
            )
            for line in reading.notes:
                self._say(line)
            self._read[command, join] = documents, reading
        return self._read[command, join]

    def _build(self, command: str) -> Corpus:
        training = command == "fit"
        bos = resolve_bos(self.bos, self.source)
        layout = choose_layout(
            self.windows, self.max_length, self.stride, bos, self.source.max_positions
        )
        if training:
            layout = replace(layout, kind="chunks", stride=layout.max_length)
        join: Join = "corpus" if training else self.join
        documents, reading = self._documents(command, join)
        return build_corpus(
            documents,
            reading,
            self.source,
            layout,
            join=join,
            batch_size=self.batch_size,
            dataset=self.text.dataset,
        )

    def _prepare_prompts(self, command: str) -> None:
        if self.source.new_tokens is None and command != "predict":
            return
        openings = self.prompts == OPENINGS
        try:
            self._prompts[command] = build_prompts(
                self.prompts,
                self._documents(command, "document")[0] if openings else [],
                self.source,
                chat_template=self.chat_template,
                batch_size=self.prompt_batch_size,
                first_step=self._steps(command),
            )
        except ConfigError as error:
            # Short texts have no openings; what else is measured of them stands by itself.
            if not openings or command == "predict" or error.key != "data.prompts":
                raise
            self._say(f"no texts are generated: {error}")
