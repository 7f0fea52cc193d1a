"""Prompts against lists written by hand: every kind of file, openings, templates, padding."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from tokenizers.processors import TemplateProcessing

from harness.data import OPENINGS, PromptBatch, TextDataModule, WindowBatch
from harness.data import prompts as prompts_module
from harness.data.documents import Document
from harness.data.plan import SENTINEL, RankBatches
from harness.data.prompts import Prompts, build_prompts
from harness.errors import ConfigError
from tests.data.conftest import Source, tokenizer_adding_bos, words_alone
from tests.tiny import tiny_tokenizer

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TEXTS = ["The first", "a second, longer one", "Füße, naïve", 'with "quotes", and commas']


def build(prompts: Any, documents: Any = (), tokenizer: Any = None, **keys: Any) -> Prompts:
    source = Source(
        tokenizer or tiny_tokenizer(),
        keys.pop("positions", 64),
        keys.pop("vocabulary", 260),
        new_tokens=8,
    )
    options = {"chat_template": False, "batch_size": 3, "first_step": lambda: 0} | keys
    return build_prompts(prompts, documents, source, **options)


def refused(*arguments: Any, **keys: Any) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        build(*arguments, **keys)
    assert "\n" not in str(error.value)
    return error.value


def test_a_tokenizer_of_a_larger_vocabulary_is_refused() -> None:
    z = tiny_tokenizer()("z")["input_ids"][-1]
    error = refused(["abc", "xyz"], vocabulary=z)
    assert error.key == "model.tokenizer"
    assert error.reason.startswith(f"makes id {z} of the text, where the model has {z} tokens")
    assert build(["abc", "xyz"], vocabulary=z + 1).texts == ["abc", "xyz"]


def batches(prompts: Prompts, rank: int = 0, world_size: int = 1) -> list[PromptBatch]:
    return [prompts.rows[batch] for batch in RankBatches(prompts.plan, rank, world_size)]


def rows_of(batch: PromptBatch) -> dict[int, list[int]]:
    """What a model sees of each prompt: the ids that are not masked."""
    rows = zip(batch.prompts.tolist(), batch.input_ids, batch.attention_mask, strict=True)
    return {number: ids[mask == 1].tolist() for number, ids, mask in rows}


def loaders(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [given]


# -- where they come from ----------------------------------------------------------------------


def written_txt(folder: Path) -> Path:
    path = folder / "prompts.txt"
    path.write_text("\n".join([TEXTS[0], "", *TEXTS[1:3], "   ", TEXTS[3], ""]), encoding="utf-8")
    return path


def written_jsonl(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    rows = [{"text": "not this", "prompt": text, "n": 1} for text in TEXTS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def written_csv(folder: Path) -> Path:
    path = folder / "prompts.csv"
    doubled = [text.replace('"', '""') for text in TEXTS]
    path.write_text("n,prompt,text\n" + "".join(f'1,"{text}",x\n' for text in doubled))
    return path


def written_parquet(folder: Path) -> Path:
    path = folder / "prompts.parquet"
    parquet.write_table(pyarrow.table({"n": [1] * 4, "whatever": TEXTS}), path)
    return path


@pytest.mark.parametrize("write", [written_txt, written_jsonl, written_csv, written_parquet])
def test_every_kind_of_file_gives_the_same_prompts(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = write(tmp_path)
    assert build(str(path)).texts == build(TEXTS).texts == TEXTS
    assert [rows_of(batch) for batch in batches(build(str(path)))] == [
        rows_of(batch) for batch in batches(build(TEXTS))
    ]


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    written_txt(tmp_path)
    assert build("~/prompts.txt").texts == TEXTS


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_keep_the_space_at_their_ends(tmp_path: Path, end: str) -> None:
    path = tmp_path / "prompts.md"
    path.write_bytes(f"\ufeff  one {end}two{end}three\f,\u2028and on{end}".encode())
    assert build(str(path)).texts == ["  one ", "two", "three\f,\u2028and on"]


@pytest.mark.parametrize("name", ["prompts [1].jsonl", "a*b.csv", "list.json", "two.tsv.gz"])
def test_any_file_with_rows_under_any_name(tmp_path: Path, name: str) -> None:
    text = {
        ".jsonl": '"One"\n{"prompt": "Two, 2", "n": 1}\n',
        ".csv": 'prompt,n\nOne,1\n"Two, 2",2\n',
        ".json": '["One", "Two, 2"]',
        ".gz": "n\tprompt\n1\tOne\n2\tTwo, 2\n",
    }[Path(name).suffix]
    raw = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    (tmp_path / "prompts 1.jsonl").write_text('"the wrong one"')
    assert build(str(tmp_path / name)).texts == ["One", "Two, 2"]


def test_the_ids_are_the_tokenizers_own() -> None:
    tokenizer = tokenizer_adding_bos()
    (batch,) = batches(build(["ab", "c"], tokenizer=tokenizer))
    plain = [tiny_tokenizer()(text)["input_ids"] for text in ("ab", "c")]
    assert rows_of(batch) == {0: [256, *plain[0]], 1: [256, *plain[1]]}


# -- openings ----------------------------------------------------------------------------------


def document(*paragraphs: str) -> Document:
    return Document("a", "\n\n".join(paragraphs), 1, 1)


def test_openings_are_the_first_tokens_of_paragraphs_that_go_on() -> None:
    documents = [
        document("x" * 31, "  0123456789abcdefghijklmnopqrstuvwxyz", "a" * 32),
        document("", "too short", "Ends in a space here; " * 2),
    ]
    # A token is a byte, so that 16 tokens are 16 letters; what a paragraph needs are 32.
    assert build(OPENINGS, documents).texts == ["0123456789abcdef", "a" * 16, "Ends in a space"]
    assert (
        build(OPENINGS, documents, tokenizer_adding_bos()).texts == build(OPENINGS, documents).texts
    )


def test_openings_come_from_the_split_of_the_command(
    data: Callable[..., TextDataModule], tmp_path: Path
) -> None:
    for split in ("validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": f"{split} " * 10}) + "\n")
    for command, split in (("validate", "validation"), ("test", "test"), ("predict", "validation")):
        module = data(str(tmp_path), prompts=OPENINGS)
        module.source.new_tokens = 8
        module.setup(command)
        assert module.prompt_texts(command) == [(f"{split} " * 10)[:16].strip()]


def test_an_eos_that_the_tokenizer_adds_does_not_end_the_prompt() -> None:
    tokenizer = tiny_tokenizer()
    plain = build(["Two", "One<eos>"], tokenizer=tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>",
        special_tokens=[("<bos>", tokenizer.bos_token_id), ("<eos>", tokenizer.eos_token_id)],
    )
    assert tokenizer("Two")["input_ids"][-1] == tokenizer.eos_token_id
    rows = rows_of(batches(build(["Two"], tokenizer=tokenizer))[0])
    assert rows == {0: [tokenizer.bos_token_id, *tokenizer.encode("Two", add_special_tokens=False)]}
    # One that stands in the text stays.
    assert rows_of(batches(plain)[0])[1][-1] == tokenizer.eos_token_id


# -- chat template -----------------------------------------------------------------------------


def test_a_prompt_is_the_message_that_is_to_be_answered() -> None:
    tokenizer = tokenizer_adding_bos()
    tokenizer.chat_template = TEMPLATE
    found = build(["Who?", "Füße"], tokenizer=tokenizer, chat_template=True)
    assert found.texts == ["Who?", "Füße"]
    (batch,) = batches(found)
    shown = {number: tokenizer.decode(ids) for number, ids in rows_of(batch).items()}
    # Whatever the template does not say is not there: no second BOS.
    assert shown == {0: "<user>Who?\n<assistant>", 1: "<user>Füße\n<assistant>"}
    (plain,) = batches(build(["Who?"], tokenizer=tokenizer))
    assert tokenizer.decode(rows_of(plain)[0]) == "<bos>Who?"


def test_a_template_counts_towards_the_length() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    text = "x" * 40
    build([text], tokenizer=tokenizer)
    error = refused([text], (), tokenizer, chat_template=True)
    assert "has 58 tokens" in error.reason


# -- batches -----------------------------------------------------------------------------------


def test_rows_are_padded_on_the_left() -> None:
    tokenizer = tiny_tokenizer()
    (batch,) = batches(build(["abc", "z", "xy"], first_step=lambda: 7))
    ids = {text: tokenizer(text)["input_ids"] for text in ("abc", "z", "xy")}
    assert batch.prompts.tolist() == [0, 2, 1]
    assert batch.input_ids.tolist() == [ids["abc"], [258, *ids["xy"]], [258, 258, *ids["z"]]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert (batch.number, batch.step) == (0, 7)


def test_a_tokenizer_without_padding_will_do() -> None:
    (batch,) = batches(build(["abc", "z"], tokenizer=tiny_tokenizer(special=False)))
    assert batch.input_ids[1, :2].tolist() == [0, 0]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_the_plan_does_not_depend_on_the_processes(world_size: int) -> None:
    prompts = build([f"{'x' * (k % 5)}{k}" for k in range(11)], first_step=lambda: 4)
    whole = {batch.number: batch for batch in batches(prompts)}
    assert len(whole) == 4
    dealt = [batches(prompts, rank, world_size) for rank in range(world_size)]
    assert {len(rank) for rank in dealt} == {-(-4 // world_size)}
    real = [batch for rank in dealt for batch in rank if batch.number != SENTINEL]
    assert sorted(batch.number for batch in real) == [0, 1, 2, 3]
    assert sorted(number for batch in real for number in rows_of(batch)) == list(range(11))
    for batch in real:
        assert batch.input_ids.tolist() == whole[batch.number].input_ids.tolist()
        assert batch.attention_mask.tolist() == whole[batch.number].attention_mask.tolist()
        assert batch.prompts.tolist() == whole[batch.number].prompts.tolist()
        assert batch.step == 4 + batch.number


def test_a_sentinel_can_be_run_and_counts_for_nothing() -> None:
    prompts = build(["abc", "z"])
    (batch,) = batches(prompts, rank=1, world_size=2)
    assert batch.number == SENTINEL
    assert batch.prompts.tolist() == [SENTINEL]
    assert batch.input_ids.tolist() == [tiny_tokenizer()("abc")["input_ids"]]
    assert batch.attention_mask.tolist() == [[1, 1, 1]]


def test_the_module_gives_windows_then_prompts(data: Callable[..., TextDataModule]) -> None:
    module = data("demo", prompts=["abc", "z"], max_documents=1, prompt_batch_size=1)
    module.setup("validate")
    assert len(loaders(module.val_dataloader())) == 1
    assert module.prompt_texts("validate") == []
    module.source.new_tokens = 8
    module.setup("validate")
    windows, prompts = loaders(module.val_dataloader())
    count = len(list(windows))
    assert all(isinstance(batch, WindowBatch) for batch in windows)
    assert [(batch.number, batch.step) for batch in prompts] == [(0, count), (1, count + 1)]


def test_predict_has_prompts_alone(data: Callable[..., TextDataModule]) -> None:
    module = data("nowhere.txt", prompts=["abc", "z"])
    module.source.new_tokens = 8
    module.setup("predict")
    (loader,) = loaders(module.predict_dataloader())
    assert [(batch.number, batch.step) for batch in loader] == [(0, 0)]
    assert module.prompt_texts("predict") == ["abc", "z"]


# -- what is refused ---------------------------------------------------------------------------


def test_no_prompts(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n  \n")
    short = [document("too short to be opened")]
    for prompts, documents in (([], ()), (str(empty), ()), (OPENINGS, ()), (OPENINGS, short)):
        error = refused(prompts, documents)
        assert (error.key, error.value) == ("data.prompts", prompts)
        assert error.reason.startswith("holds no prompts")


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_an_empty_prompt(text: str, tmp_path: Path) -> None:
    error = refused(["good", text])
    assert (error.key, error.value) == ("data.prompts", text)
    assert error.reason == "prompt 1 is empty; give texts to continue"
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in ("good", text)))
    error = refused(str(path))
    assert (error.key, error.value) == ("data.prompts", str(path))
    assert error.reason == "row 2 is empty, null or missing; give texts to continue"


@pytest.mark.parametrize("row", ['{"prompt": null}', '{"text": "another column"}', "{}"])
def test_a_row_without_a_prompt(tmp_path: Path, row: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "good"}}\n{{"prompt": "as well"}}\n{row}\n')
    error = refused(str(path))
    assert (error.key, error.value) == ("data.prompts", str(path))
    assert error.reason == "row 3 is empty, null or missing; give texts to continue"


@pytest.mark.parametrize("given", [["good", 1, None], '["good", 1, null]'])
def test_a_list_of_what_is_no_text(given: Any) -> None:
    # The command line hands a list that is no list of texts on as text.
    error = refused(given)
    assert (error.key, error.value) == ("data.prompts", 1)
    assert error.reason == "prompt 1 is no text; put each in quotes"


def test_a_file_named_like_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("[1].txt").write_text("One\n")
    assert build("[1].txt").texts == ["One"]


def test_a_folder_is_none(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "prompts.txt"):
        folder.mkdir(exist_ok=True)
        error = refused(str(folder))
        assert (error.key, error.value) == ("data.prompts", str(folder))
        assert error.reason.startswith("a folder, not a file of prompts; give txt, jsonl, csv or")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "nowhere.txt",
            None,
            'no such file; give txt, jsonl, csv or parquet, a list such as ["A text"], or openings',
        ),
        ("a sentence, not a file", None, "no such file; give txt"),
        ("a sentence too long to be the name of a file " * 20, None, "no such file; give txt"),
        ("notes.pdf", "a", "not a file of prompts; give txt"),
        (
            "none.jsonl",
            '{"a": "x", "b": "y"}\n',
            "no column prompt, nor one of text alone; there are a (text), b (text)",
        ),
        ("number.csv", "prompt\n1\n2\n", "its column prompt holds nothing but numbers"),
        ("number.jsonl", '{"prompt": "a"}\n{"prompt": 1}\n', "line 2: its prompt is no text"),
        ("broken.jsonl", '{"prompt": \n', "no JSON: line 1, character"),
        ("broken.json", '["a", "b]', "no JSON: line 1, character"),
        ("half.jsonl", '"a"\n"\\ud83d"\n', "line 2: half of a pair of surrogates stands alone"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    error = refused(str(tmp_path / name))
    assert (error.key, error.value) == ("data.prompts", str(tmp_path / name))
    assert says in error.reason
    # These are keys of the text that is scored, not of the prompts.
    assert "data.dataset" not in error.reason
    assert "data.text_column" not in error.reason


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("Füße".encode("latin-1"))
    error = refused(str(path))
    assert (error.key, error.reason) == (
        "data.prompts",
        "not UTF-8 (byte 1 of line 1); convert it first",
    )


def test_a_prompt_without_room_for_its_continuation() -> None:
    build(["x", "y" * 56])
    error = refused(["x", "y" * 57])
    assert (error.key, error.value) == ("data.prompts", "y" * 40 + "…")
    assert error.reason == (
        "prompt 1 has 57 tokens, which with 8 new ones (model.generation.max_new_tokens) exceed "
        "the model's 64 positions; shorten it, or generate fewer"
    )
    build(["y" * 1000], positions=None)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("prompts.txt", f"x\n\n{'y' * 57}\n", "line 3"),
        ("prompts.jsonl", f'{{"prompt": "x"}}\n{{"prompt": "{"y" * 57}"}}\n', "row 2"),
    ],
)
def test_a_prompt_without_room_is_found_in_its_file(
    tmp_path: Path, name: str, content: str, place: str
) -> None:
    (tmp_path / name).write_text(content)
    error = refused(str(tmp_path / name))
    assert (error.key, error.value) == ("data.prompts", str(tmp_path / name))
    assert error.reason.startswith(f"{place}, '{'y' * 40}…', has 57 tokens, which with 8 new ones")


def test_no_chat_template() -> None:
    error = refused(["x"], chat_template=True)
    assert (error.key, error.value) == ("data.chat_template", True)
    assert error.reason.startswith("the tokenizer has no chat template")


def test_a_chat_template_that_fails() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('a system message must come first') }}"
    error = refused(["x"], (), tokenizer, chat_template=True)
    assert (error.key, error.value) == ("data.chat_template", True)
    assert "a system message must come first" in error.reason


def test_a_chat_template_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_module, "_TEMPLATE_SECONDS", 0.1)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    tokenizer.chat_template += "{% endfor %}"
    error = refused(["x"], (), tokenizer, chat_template=True)
    assert (error.key, error.value) == ("data.chat_template", True)
    assert error.reason.endswith("fails on a user's message: it takes longer than 0.1 seconds")


@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 // 0 }}",
        "{{ messages[0].__class__.mro() }}",
        "{% for %}",
        "{{ 'a' * 10**18 }}",
    ],
)
def test_a_chat_template_that_is_no_good(template: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    error = refused(["x"], (), tokenizer, chat_template=True)
    assert error.key == "data.chat_template"
    assert error.reason.startswith("the tokenizer's template fails on a user's message: ")


def test_half_of_a_pair_of_surrogates() -> None:
    error = refused(["good", "ha\ud83d"])
    assert (error.key, error.value) == ("data.prompts", "ha\ud83d")
    assert error.reason.startswith("prompt 1 cannot be encoded: half of a pair of surrogates")
    str(error).encode()


def test_a_tokenizer_that_fails() -> None:
    tokenizer = words_alone()
    assert build(["known"], tokenizer=tokenizer).texts == ["known"]
    error = refused(["known", "unknown"], (), tokenizer)
    assert (error.key, error.value) == ("data.prompts", "unknown")
    assert error.reason.startswith("prompt 1 makes the tokenizer fail: ")


def test_a_pad_id_beyond_the_embeddings_is_not_used() -> None:
    (batch,) = batches(build(["abc", "z"], vocabulary=258))
    assert batch.input_ids[1, :2].tolist() == [0, 0]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_texts_are_asked_for_and_there_are_no_prompts(
    command: str, data: Callable[..., TextDataModule]
) -> None:
    module = data("demo", max_documents=1)
    module.source.new_tokens = 8
    with pytest.raises(ConfigError, match=r"data\.prompts=None: model\.generation asks for texts"):
        module.setup(command)


def test_predict_without_generation_is_refused() -> None:
    module = TextDataModule(Source(tiny_tokenizer()), "demo", prompts=["x"])
    with pytest.raises(ConfigError, match=r"model\.generation=None: predict generates text"):
        module.setup("predict")


def test_the_size_of_a_batch_is_checked() -> None:
    for wrong in (0, -1, True):
        with pytest.raises(ConfigError, match=r"data\.prompt_batch_size=") as error:
            TextDataModule(Source(tiny_tokenizer()), "demo", prompt_batch_size=wrong)
        assert error.value.reason == "give a whole number from 1 on"
