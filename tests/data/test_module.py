"""The data module: what it refuses, what it prepares, and what Lightning sees of it."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

import harness.data
from harness.data import WindowBatch
from harness.data.plan import SENTINEL
from harness.errors import ConfigError
from tests.data.conftest import tokenizer_adding_bos
from tests.tiny import tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("abcdefghij")
    (tmp_path / "b.jsonl").write_text('{"text": "klm"}\n{"text": ""}\n{"text": "no"}\n')
    return tmp_path


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"dataset": ""}, "dataset"),
        ({"dataset": []}, "dataset"),
        ({"splits": {"check": "train"}}, "splits"),
        ({"max_length": 1}, "max_length"),
        ({"max_length": 8.0}, "max_length"),
        ({"stride": 0}, "stride"),
        ({"stride": -3}, "stride"),
        ({"max_length": 8, "stride": 9}, "stride"),
        ({"max_length": 8, "stride": 4, "windows": "chunks"}, "stride"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"max_documents": 0}, "max_documents"),
        ({"join": "all"}, "join"),
        ({"windows": "sliding"}, "windows"),
        ({"bos": "always"}, "bos"),
        ({"detokenizer": "moses"}, "detokenizer"),
    ],
)
def test_values_are_refused_at_once(data, keys, key):
    with pytest.raises(ConfigError) as caught:
        data(**keys)
    assert caught.value.key == f"data.{key}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"max_length": 65}, "data.max_length=65: beyond the 64 positions"),
        ({"stride": 65}, "data.stride=65: above data.max_length=64"),
        ({"stride": 32, "windows": "chunks"}, "data.stride=32: chunks do not overlap"),
    ],
)
def test_what_depends_on_the_model_is_refused_in_setup(folder, data, keys, told):
    module = data("a.txt", **keys)
    with pytest.raises(ConfigError) as caught:
        module.setup("validate")
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(("positions", "length"), [(64, 64), (4096, 2048), (None, 2048)])
def test_the_default_length(folder, data, positions, length):
    module = data("a.txt", positions=positions)
    module.setup("validate")
    record = module.corpus("validate").record
    assert (record.max_length, record.stride) == (length, length)


def test_documents_in_windows(folder, data):
    module = data(["a.txt", "b.jsonl"], max_length=4, batch_size=3)
    module.setup("test")
    corpus = module.corpus("test")
    assert [unit.name for unit in corpus.units] == ["a.txt", "0", "2"]
    assert [unit.tokens for unit in corpus.units] == [10, 3, 2]
    assert vars(corpus.record) == {
        "dataset": ["a.txt", "b.jsonl"],
        "split": "all",
        "documents": 3,
        "windows": 5,
        "tokens": 15,
        "words": 3,
        "bytes": 15,
        "max_length": 4,
        "stride": 4,
        "join": "document",
        "bos": "start",
        "windows_kind": "rolling",
        "text_column": "text",
    }
    batches = list(module.test_dataloader())
    assert len(module.test_dataloader()) == len(batches) == 2
    assert all(isinstance(batch, WindowBatch) for batch in batches)
    assert [batch.number for batch in batches] == [0, 1]
    assert [batch.windows.tolist() for batch in batches] == [[0, 1, 2], [3, 4]]
    assert sum(int((batch.targets != -100).sum()) for batch in batches) == 15
    assert batches[0].input_ids[1].tolist() == ids_of("defg")


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_a_joined_corpus_of_some_rows(folder, data):
    module = data("b.jsonl", join="corpus", max_documents=2, bos="none")
    module.setup("validate")
    (batch,) = module.val_dataloader()
    assert batch.input_ids[0].tolist() == ids_of("klm\n")
    assert module.corpus("validate").record.documents == 2


def test_nulls_count_as_other_empty_rows_do(folder, data):
    (folder / "n.jsonl").write_text('{"text": "ab"}\n{"text": null}\n{"text": "c"}\n')
    by_document, joined = data("n.jsonl"), data("n.jsonl", join="corpus", bos="none")
    by_document.setup("validate")
    assert [unit.name for unit in by_document.corpus("validate").units] == ["0", "2"]
    joined.setup("validate")
    (batch,) = joined.val_dataloader()
    assert batch.input_ids[0].tolist() == ids_of("ab\n\n\n\n")
    assert joined.corpus("validate").record.documents == 3
    nulls = pyarrow.array([None, None], pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": nulls}), folder / "n.parquet")
    for join in ("document", "corpus"):
        with pytest.raises(ConfigError, match="no text in it"):
            data("n.parquet", join=join).setup("validate")


def test_validation_on_the_training_text_says_so_once(folder, data, capsys):
    module = data("a.txt", max_length=4, batch_size=1)
    module.setup("fit")
    module.setup("fit")
    module.setup("validate")
    assert capsys.readouterr().err == (
        "note: data.dataset='a.txt' is read whole, so validation runs on the training text; "
        "give a folder with train and validation files\n"
    )
    (folder / "split").mkdir()
    for split in ("train", "validation"):
        (folder / f"split/{split}.txt").write_text("abcdefghij")
    data("split", max_length=4).setup("fit")
    assert capsys.readouterr().err == (
        "note: of 'split' is read, as train: 1 of 2 files; the others are of validation\n"
        "note: of 'split' is read, as validation: 1 of 2 files; the others are of train\n"
    )
    data("a.txt").setup("validate")
    for no_other in ({"world_size": 2, "global_rank": 1}, {"limit_val_batches": 0}):
        module = data("a.txt", max_length=4)
        place = {"world_size": 1, "global_rank": 0, "limit_val_batches": 1.0} | no_other
        module.trainer = SimpleNamespace(**place)
        module.setup("fit")
    assert capsys.readouterr().err == ""


def test_the_bos_of_a_tokenizer_is_never_doubled(folder, data):
    module = data("a.txt", tokenizer=tokenizer_adding_bos(), max_length=4)
    module.setup("validate")
    assert module.corpus("validate").record.bos == "window"
    (batch,) = module.val_dataloader()
    assert batch.input_ids[:, 0].tolist() == [256, 256, 256]
    assert not (batch.input_ids[:, 1:] == 256).any()
    assert not (batch.targets == 256).any()


def test_a_tokenizer_without_special_tokens(folder, data):
    module = data("a.txt", tokenizer=tiny_tokenizer(special=False), max_length=4)
    module.setup("validate")
    assert module.corpus("validate").record.bos == "none"
    assert module.corpus("validate").record.tokens == 9


def test_splits_that_are_left_out_keep_their_default(data):
    module = data(splits={"validate": "test"}, max_documents=2)
    module.setup("validate")
    assert module.corpus("validate").record.split == "test"
    kept = {"fit": "train", "validate": "test", "test": "test", "predict": "validation"}
    assert module.splits == kept
    module = data(splits={"validate": "dev"})
    with pytest.raises(ConfigError, match=r"^data\.splits\.validate='dev': the embedded corpus"):
        module.setup("validate")


def test_nothing_to_read_for_other_commands(data):
    with pytest.raises(ConfigError, match=r"^model\.generation=None: predict generates text"):
        data("gone.txt").setup("predict")


def test_training_text_is_cut_into_shuffled_chunks(folder, data):
    (folder / "train.txt").write_text("".join(chr(33 + i) for i in range(90)))
    module = data(["train.txt"], max_length=8, batch_size=2, bos="window", stride=3)
    module.setup("fit")
    corpus = module.corpus("fit")
    assert (corpus.record.windows, corpus.record.windows_kind, corpus.record.stride) == (
        12,
        "chunks",
        8,
    )
    torch.manual_seed(3)
    first = list(module.train_dataloader())
    assert len(first) == 6
    assert all(batch.input_ids.shape == (2, 7) for batch in first)
    assert all((batch.input_ids[:, 0] == 256).all() for batch in first)
    assert all((batch.targets[:, :-1] == batch.input_ids[:, 1:]).all() for batch in first)
    seen = [window for batch in first for window in batch.windows.tolist()]
    assert sorted(seen) == list(range(12))
    assert seen != sorted(seen)
    again = [w for batch in module.train_dataloader() for w in batch.windows.tolist()]
    assert again == seen
    torch.manual_seed(4)
    assert [w for batch in module.train_dataloader() for w in batch.windows.tolist()] != seen
    # What validation does in between follows its own windows.
    assert module.corpus("validate").record.windows_kind == "rolling"


def test_too_little_text_for_a_training_batch(folder, data):
    module = data("a.txt", max_length=4, batch_size=3)
    module.setup("fit")
    with pytest.raises(
        ConfigError, match=r"^data\.batch_size=3: the training text has only 2 windows"
    ):
        module.train_dataloader()


class Recorder(LightningModule):
    """Notes which windows it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[int]] = {"train": [], "check": []}

    def training_step(self, batch, _):
        self.seen["train"] += batch.windows.tolist()
        return self.weight * batch.input_ids.sum()

    def validation_step(self, batch, _, dataloader_idx=0):
        if dataloader_idx:
            self.seen["prompts"] += batch.prompts.tolist()
        else:
            self.seen["check"] += batch.windows.tolist()

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(folder: Path, **options) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        use_distributed_sampler=False,
        enable_model_summary=False,
        **quiet,
        **options,
    )


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_lightning_sees_every_window_once(folder, data):
    module, model = data("a.txt", max_length=2, batch_size=2), Recorder()
    trainer(folder).validate(model, module, verbose=False)
    assert sorted(model.seen["check"]) == list(range(5))
    trainer(folder).test(model, module, verbose=False)
    assert sorted(model.seen["check"]) == sorted([*range(5), *range(5)])


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(
    ("limit", "windows", "prompts"),
    [(1.0, 10, 2), (0.5, 5, 1), (0.3, 3, 1), (0.1, 1, 1), (3, 3, 2), (1, 1, 1)],
)
@pytest.mark.parametrize("command", ["validate", "test"])
def test_a_share_of_the_batches_is_one_of_each_kind_at_least(
    folder, data, limit, windows, prompts, command
):
    (folder / "a.txt").write_text("abcdefghijk")
    module, model = data("a.txt", max_length=2, batch_size=1, stride=1), Recorder()
    module.prompts, module.prompt_batch_size, module.source.new_tokens = ["abc", "z"], 1, 8
    kind = {"validate": "val", "test": "test"}[command]
    runs = trainer(folder, **{f"limit_{kind}_batches": limit})
    for _ in range(2):  # the trainer is left as it was
        model.seen["check"], model.seen["prompts"] = [], []
        getattr(runs, command)(model, module, verbose=False)
        assert getattr(runs, f"limit_{kind}_batches") == limit
        assert model.seen["prompts"] == [0, 1][:prompts]
        assert len(model.seen["check"]) == windows
    less = trainer(folder, **{f"limit_{kind}_batches": 0.09})
    with pytest.raises(ConfigError, match=r"^trainer\.limit_.*_batches=0\.09: less than one"):
        getattr(less, command)(model, module, verbose=False)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_lightning_trains_in_a_new_order_each_epoch(folder, data):
    (folder / "train.txt").write_text("x" * 200)
    module, model = data("train.txt", max_length=5, batch_size=2, bos="none"), Recorder()
    trainer(folder, max_epochs=2, limit_val_batches=0).fit(model, module)
    first, second = model.seen["train"][:40], model.seen["train"][40:]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert not model.seen["check"]
    with pytest.raises(KeyError):
        module.corpus("validate")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_hub_data_set_is_downloaded_before_it_is_read(folder, data, monkeypatch):
    asked = []

    def load(*args, **keys):
        asked.append((*args, keys["split"]))
        return datasets.Dataset.from_dict({"text": ["abcdef"]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    module, model = data("a/b", name="en", splits={"validate": "dev"}, max_length=2), Recorder()
    trainer(folder).validate(model, module, verbose=False)
    # Once to download, on one process, and once to read, on each.
    assert asked == [("a/b", "en", "dev")] * 2
    assert sorted(model.seen["check"]) == [0, 1, 2]
    assert module.corpus("validate").record.split == "dev"


def test_ranks_share_the_plan(folder, data):
    module = data("a.txt", max_length=2, batch_size=2)
    module.setup("validate")

    class Place:
        world_size = 2
        global_rank = 0

    seen = []
    for rank in range(2):
        place = Place()
        place.global_rank = rank
        module.trainer = place
        batches = list(module.val_dataloader())
        assert len(batches) == 2
        seen += [w for b in batches if b.number != SENTINEL for w in b.windows.tolist()]
    assert sorted(seen) == list(range(5))


def test_heavy_libraries_are_imported_where_they_are_used():
    for path in Path(harness.data.__file__).parent.glob("*.py"):
        top = ast.parse(path.read_text()).body
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
        roots = {name.partition(".")[0] for name in names}
        assert not roots & {"datasets", "transformers", "scipy", "pyarrow"}
        assert not names & {"harness.scoring", "harness.statistics.intervals"}
