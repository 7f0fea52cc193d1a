"""The data module: from configuration keys to loaders of window batches."""

from __future__ import annotations

from typing import Any, get_args

from lightning.pytorch import LightningDataModule

from harness.base.console import note
from harness.data import checks
from harness.data.corpus import Corpus, build_corpus, resolve_bos
from harness.data.documents import Detokenizer, Document, Join, make_documents
from harness.data.loaders import Loader, Shares, loader
from harness.data.plan import RankBatches, ShuffledBatches
from harness.data.prompts import OPENINGS, PromptBatch, Prompts, build_prompts
from harness.data.sources import Reading, TextSource
from harness.data.token_source import TokenSource
from harness.data.windows import BosPolicy, Kind, Layout
from harness.errors import ConfigError

SPLITS = {"fit": "train", "validate": "validation", "test": "test", "predict": "validation"}
"""The split that each command reads unless told otherwise."""

LONGEST = 2048
"""Most ids in a window unless told otherwise."""


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
        if not dataset:
            raise ConfigError("data.dataset", dataset, "name a hub id, a path, or demo")
        checks.check_splits(splits, tuple(SPLITS))
        checks.one_of("join", join, get_args(Join))
        checks.one_of("windows", windows, get_args(Kind))
        checks.one_of("bos", bos, get_args(BosPolicy))
        checks.one_of("detokenizer", detokenizer, get_args(Detokenizer))
        checks.at_least("max_length", max_length, 2)
        checks.at_least("stride", stride, 1)
        checks.at_least("batch_size", batch_size, 1)
        checks.at_least("max_documents", max_documents, 1)
        checks.at_least("prompt_batch_size", prompt_batch_size, 1)
        checks.check_stride(windows, stride, max_length)
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
        self._training = False
        self._read: dict[tuple[str, str], tuple[list[Document], Reading]] = {}
        self._said: set[str] = set()
        self._shares = Shares()

    def prepare_data(self) -> None:
        """Downloads a hub data set, on one process, so that the others find it cached."""
        if self.text.from_hub and self.trainer is not None and self.trainer.state.fn is not None:
            for command in self._commands(self.trainer.state.fn.value):
                self.text.table(self.splits[command], f"data.splits.{command}")

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
        self._training = stage == "fit"
        commands = self._commands(stage)
        new = [command for command in commands if command not in self._corpora]
        self._corpora |= {command: self._build(command) for command in new}
        if stage != "fit" and stage not in self._prompts:
            self._prepare_prompts(stage)
        self._read.clear()
        # What has no splits holds the training text, whichever split that was taken from.
        unsplit = "validate" in commands and self.corpus("validate").record.split == "all"
        if "fit" in new and unsplit:
            whole = f"data.dataset={self.text.dataset!r} is read whole, so validation runs on the"
            self._say(f"{whole} training text; give a folder with train and validation files")
        self._shares.take(self.trainer, stage, self._corpora.get(stage))

    def teardown(self, stage: str) -> None:
        """Gives the trainer back the share of the batches that was taken from it."""
        self._shares.give_back(self.trainer, stage)

    def corpus(self, command: str) -> Corpus:
        """Returns what ``setup`` has made ready for ``fit``, ``validate`` or ``test``."""
        return self._corpora[command]

    def prompt_texts(self, command: str) -> list[str]:
        """Returns the prompts of a command; none where no text is generated."""
        return self._prompts[command].texts if command in self._prompts else []

    def padded_prompts(self, command: str) -> PromptBatch | None:
        """Returns the first batch of a command's prompts that has padding; None where none has."""
        made = self._prompts.get(command)
        batches = (made.rows[planned] for planned in enumerate(made.plan)) if made else ()
        return next((batch for batch in batches if not bool(batch.attention_mask.all())), None)

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
        rank, size = self._place()
        count = corpus.record.windows
        batches = ShuffledBatches(count, self.batch_size, rank=rank, world_size=size)
        if not len(batches):
            checks.too_few_windows(self.batch_size, count, corpus.record.max_length)
        checks.check_validation_interval(self.trainer, len(batches))
        return loader(corpus.rows, batches)

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
        prompts = {} if self._training else self._prompts
        planned = [made[command] for made in (self._corpora, prompts) if command in made]
        loaders = [
            loader(part.rows, RankBatches(self._shares.of(command, part.plan), *self._place()))
            for part in planned
        ]
        return loaders[0] if len(loaders) == 1 else loaders

    def _say(self, line: str) -> None:
        """Says a line once, by one process."""
        if line not in self._said and self._place()[0] == 0:
            note(line)
        self._said.add(line)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _commands(self, stage: str) -> tuple[str, ...]:
        if stage == "fit":
            validates = self.trainer is None or self.trainer.limit_val_batches != 0
            return ("fit", "validate") if validates else ("fit",)
        return (stage,) if stage in ("validate", "test") else ()

    def _layout(self, command: str) -> tuple[Layout, int | None]:
        positions = self.source.max_positions
        max_length = self.max_length or min(positions or LONGEST, LONGEST)
        checks.check_positions(max_length, positions)
        checks.check_stride(self.windows, self.stride, max_length)
        place, bos_id = resolve_bos(self.bos, self.source.tokenizer, self.source.vocabulary)
        if command == "fit":
            return Layout("chunks", max_length, max_length, place), bos_id
        return Layout(self.windows, max_length, self.stride or max_length, place), bos_id

    def _documents(self, command: str, join: Join) -> tuple[list[Document], Reading]:
        if (command, join) not in self._read:
            reading = self.text.read(self.splits[command], f"data.splits.{command}")
            documents = make_documents(
                reading.rows, join=join, detokenizer=self.detokenizer, limit=self.max_documents
            )
            for line in reading.notes:
                self._say(line)
            self._read[command, join] = documents, reading
        return self._read[command, join]

    def _prepare_prompts(self, command: str) -> None:
        new_tokens = self.source.new_tokens
        if new_tokens is None:
            if command == "predict":
                reason = "predict generates text: --model.generation.max_new_tokens says how much"
                raise ConfigError("model.generation", None, reason)
            return
        try:
            self._prompts[command] = self._build_prompts(command, new_tokens)
        except ConfigError as error:
            # Short texts have no openings; what else is measured of them stands by itself.
            if self.prompts != OPENINGS or command == "predict" or error.key != "data.prompts":
                raise
            self._say(f"no texts are generated: {error}")

    def _build_prompts(self, command: str, new_tokens: int) -> Prompts:
        if self.prompts is None:
            reason = f"model.generation asks for texts; give a list, a file, or {OPENINGS}"
            raise ConfigError("data.prompts", None, reason)
        openings = self.prompts == OPENINGS
        return build_prompts(
            self.prompts,
            self._documents(command, "document")[0] if openings else [],
            self.source.tokenizer,
            chat_template=self.chat_template,
            new_tokens=new_tokens,
            positions=self.source.max_positions,
            vocabulary=self.source.vocabulary,
            batch_size=self.prompt_batch_size,
            first_step=len(self._corpora[command].plan) if command in self._corpora else 0,
        )

    def _build(self, command: str) -> Corpus:
        layout, bos_id = self._layout(command)
        join: Join = "corpus" if command == "fit" else self.join
        documents, reading = self._documents(command, join)
        return build_corpus(
            documents,
            self.source.tokenizer,
            layout,
            vocabulary=self.source.vocabulary,
            bos_id=bos_id,
            batch_size=self.batch_size,
            join=join,
            dataset=self.text.dataset,
            split=reading.split,
            text_column=reading.column,
            notes=reading.notes,
        )
