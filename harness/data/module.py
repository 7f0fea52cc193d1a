"""The data module: from configuration keys to loaders of window batches."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from harness.base.console import note
from harness.base.processes import Processes
from harness.data.checks import check_choice, check_whole
from harness.data.corpus import Corpus, ScoredText
from harness.data.documents import Detokenizer, Join
from harness.data.limits import Limits, check_interval, check_streamed
from harness.data.plan import RankBatches, ShuffledBatches
from harness.data.prompts import OPENINGS, PromptBatch, Prompts, build_prompts
from harness.data.sources import TextSource
from harness.data.stream import StreamedCorpus, StreamRows
from harness.data.texts import Texts
from harness.data.token_source import TokenSource
from harness.data.windows import BosPolicy, Kind
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
            paragraphs, spread evenly over the evaluated text (with `streaming`: over the first
            4,096 documents of it).
        chat_template: Wrap each prompt as a user's message by the tokenizer's chat template.
        prompt_batch_size: Prompts per batch.
        streaming: Read the text while it is scored, for what fits neither on a disk nor in memory:
            documents in their order, up to 4,096 at a time, longest first among these alone. Any
            data set of the hub and any local file but a `.json` that is one list; `join: document`;
            `validate` and `test`. Every process reads all of it. Name a column that is not `text`:
            to find one, files of JSON lines are read an extra time.

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
        streaming: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(splits, dict):
            raise ConfigError("data.splits", splits, "must be a mapping, such as {test: train}")
        for command in splits:
            check_choice("splits", command, SPLITS)
        if not isinstance(streaming, bool):
            raise ConfigError("data.streaming", streaming, "give true or false")
        check_whole(1, prompt_batch_size=prompt_batch_size)
        # Not annotated as the protocol above: jsonargparse takes no object for one with properties.
        self.source: TokenSource = source
        self.text = TextSource(dataset, name, revision, text_column, streaming=streaming)
        self.splits = SPLITS | splits
        self.batch_size = batch_size
        self.prompts = prompts
        self.chat_template = chat_template
        self.prompt_batch_size = prompt_batch_size
        self._texts = Texts(
            self.source,
            self.text,
            self.splits,
            max_length,
            stride,
            join,
            windows,
            bos,
            detokenizer,
            batch_size,
            max_documents,
            self._say,
        )
        self._corpora: dict[str, Corpus | StreamedCorpus] = {}
        self._prompts: dict[str, Prompts] = {}
        self._said: set[str] = set()
        self._limits = Limits()

    def prepare_data(self) -> None:
        """Downloads a hub data set, on one process, so that the others find it cached."""
        if self.text.streaming or not self.text.from_hub or self.trainer is None:
            return
        if self.trainer.state.fn is not None:
            with suppress(ConfigError):  # which `setup` comes upon in every process
                for command in self._commands(self.trainer.state.fn.value):
                    self._texts.reading(command)

    def setup(self, stage: str) -> None:
        """Reads, tokenizes and cuts the text of a command; what it refuses, no weights wait for.

        Args:
            stage: ``fit`` (training text, and validation text unless validation is turned off),
                ``validate`` or ``test``; ``predict`` has prompts alone.

        Raises:
            ConfigError: The text cannot be had, or is not what the configuration says.
            EndedElsewhere: Another process has refused it.
        """
        # Lightning passes a member of an enumeration, which would show as such in errors.
        command = str(getattr(stage, "value", stage))
        Processes.joined().accept(partial(self._setup, command))

    def _setup(self, stage: str) -> None:
        if self.text.streaming and stage == "fit":
            reason = "fit draws its batches from all of the text; leave it out"
            raise ConfigError("data.streaming", True, reason)
        if self.text.streaming and stage != "predict":
            check_streamed(self.trainer, stage)
        commands = self._commands(stage)
        new = [command for command in commands if command not in self._corpora]
        self._corpora |= {command: self._texts.corpus(command) for command in new}
        if stage == "fit":
            self._prompts.clear()  # validation in between has windows alone
        elif stage not in self._prompts:
            self._prepare_prompts(stage)
        self._texts.forget()
        # What has no splits holds the training text, whichever split that was taken from.
        unsplit = "validate" in commands and self.corpus("validate").record.split == "all"
        if "fit" in new and unsplit:
            whole = f"data.dataset={self.text.dataset!r} is read whole, so validation runs on the"
            self._say(f"{whole} training text; give a folder with train and validation files")
        for command in commands or (stage,):
            self._limits.take(self.trainer, command, self._steps(command))

    def teardown(self, stage: str) -> None:
        """Gives the trainer back the limit of the batches that was taken from it."""
        for command in self._commands(stage) or (stage,):
            self._limits.give_back(self.trainer, command)

    def asked(self, command: str) -> list[object]:
        """Returns what was asked for of a command's text, as far as it decides what is scored."""
        return self._texts.asked(command)

    def corpus(self, command: str) -> ScoredText:
        """Returns what ``setup`` has made ready for ``fit``, ``validate`` or ``test``."""
        return self._corpora[command]

    def prompt_texts(self, command: str) -> list[str]:
        """Returns the prompts of a command; none where no text is generated."""
        return self._prompts[command].texts if command in self._prompts else []

    def padded_prompts(self, command: str) -> PromptBatch | None:
        """Returns the first batch of a command's prompts that has padding; None where none has."""
        return self._prompts[command].padded() if command in self._prompts else None

    def batches(self, command: str) -> list[int | None]:
        """Returns how many batches of windows, and of prompts, all processes run of a command.

        Of a text that is streamed it is how many they run at most, None where all are asked for.
        """
        return [
            self._limits.of(command, None if isinstance(part, StreamedCorpus) else len(part.plan))
            for part in self._parts(command)
        ]

    def longest_row(self) -> int:
        """Returns the most ids that the model will see at once, of a window or a prompt."""
        parts: list[ScoredText | Prompts] = [*self._corpora.values(), *self._prompts.values()]
        return max(part.longest for part in parts)

    def train_dataloader(self) -> Loader:
        """Returns the training batches: chunks in random order, by the seed of torch.

        Raises:
            ConfigError: The text is too short for a single batch.
        """
        corpus = self._corpora["fit"]
        assert isinstance(corpus, Corpus)  # `setup` refuses to train on a stream
        count = len(corpus.windows)
        batches = ShuffledBatches(count, self.batch_size, *self.place)
        if not len(batches):
            size = f"{count} windows of {corpus.record.max_length} ids"
            reason = f"the training text has only {size}; choose a smaller batch or max_length"
            raise ConfigError("data.batch_size", self.batch_size, reason)
        check_interval(self.trainer, len(batches))
        batches.skipped = _trained_on(self.trainer) % len(batches)
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
        ranks = self.place[1]
        most = max(batches or ranks for batches in self.batches(command))
        if most < ranks:
            idle = (
                f"{ranks - most} of {ranks} processes have nothing to do (batches in all: {most})"
            )
            self._say(f"{idle}; a smaller data.batch_size makes more")
        for part, batches in zip(self._parts(command), self.batches(command), strict=True):
            if isinstance(part, StreamedCorpus):
                rows = StreamRows(part, *self.place, batches)
                loaders.append(DataLoader(rows, batch_size=None))
                continue
            dealt = RankBatches(part.plan[:batches], *self.place)
            # The sampler yields whole batches, which the data set turns into tensors.
            loaders.append(DataLoader(part.rows, batch_size=None, sampler=dealt))
        return loaders[0] if len(loaders) == 1 else loaders

    def _parts(self, command: str) -> list[Corpus | StreamedCorpus | Prompts]:
        parts = (self._corpora.get(command), self._prompts.get(command))
        return [part for part in parts if part is not None]

    def _say(self, line: str) -> None:
        """Says a line once, by one process."""
        if line not in self._said and (not self.trainer or self.trainer.global_rank == 0):
            note(line)
        self._said.add(line)

    @property
    def place(self) -> tuple[int, int]:
        """Which share of the batches this process has, and how many shares there are."""
        if not self.trainer:
            return 0, 1
        # Processes that share a model's layers between them have the same batches.
        mesh = getattr(getattr(self.trainer, "strategy", None), "_device_mesh", None)
        if mesh is not None:
            axis = mesh["data_parallel"]
            return axis.get_local_rank(), axis.size()
        return self.trainer.global_rank, self.trainer.world_size

    def _steps(self, command: str) -> int:
        return self._corpora[command].steps if command in self._corpora else 0

    def _commands(self, stage: str) -> tuple[str, ...]:
        if stage == "fit" and (self.trainer is None or self.trainer.limit_val_batches != 0):
            return ("fit", "validate")
        return (stage,) if stage != "predict" else ()

    def _prepare_prompts(self, command: str) -> None:
        if self.source.new_tokens is None and command != "predict":
            return
        openings = self.prompts == OPENINGS
        try:
            self._prompts[command] = build_prompts(
                self.prompts,
                self._texts.documents(command) if openings else [],
                self.source,
                chat_template=self.chat_template,
                batch_size=self.prompt_batch_size,
                first_step=partial(self._steps, command),
            )
        except ConfigError as error:
            # Short texts have no openings; what else is measured of them stands by itself.
            if not openings or command == "predict" or error.key != "data.prompts":
                raise
            self._say(f"no texts are generated: {error}")


def _trained_on(trainer: Trainer | None) -> int:
    """Batches of the present epoch that a training had done which is gone on with."""
    if trainer is None:
        return 0
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
