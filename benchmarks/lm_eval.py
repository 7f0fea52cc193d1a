"""``validate`` of a model and a variant, against two runs of lm-evaluation-harness.

Whole processes over the same documents, as who wants to know what an edit costs would run them:
once on the model and once on an edited copy. Both find the perplexity by byte of the model, which
has to be the same and is printed beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

import yaml
from transformers import AutoTokenizer

from benchmarks.shapes import Bench
from harness.demo import MODEL_FOLDER

CLAIM = "validate of model and variant, observed, by two runs of lm-eval"
BOUNDS = {"cpu": {"135M": 0.6}}
NEEDS = "pip install -c constraints.txt -e '.[bench]'"
PROTOCOL = Path(__file__).parents[1] / "configs/protocols/lm-eval.yaml"
DOCUMENTS, CHARACTERS = 30, 2_000
_LENGTH, _ROWS = 512, 4
_TASK = {
    "task": "topics",
    "dataset_path": "json",
    "output_type": "loglikelihood_rolling",
    "test_split": "test",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "byte_perplexity"}],
}


def ratio(bench: Bench, pairs: int = 2) -> float | None:
    """None where lm-evaluation-harness is not installed."""
    if find_spec("lm_eval") is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(bench, folder)
        ours, theirs = _ours(folder), _theirs(folder)
        two = 2 * bench.ratio(lambda: _run(theirs, folder), lambda: _run(ours, folder), pairs)
        print(f"  byte perplexity: {_found(folder)}", file=sys.stderr)
        return 1 / two


def _prepare(bench: Bench, folder: Path) -> None:
    bench.model.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(MODEL_FOLDER).save_pretrained(folder / "model")
    # Without the last line break, which a template of lm-eval would leave out.
    texts = [text[:CHARACTERS].strip() for text in list(topics.values())[:DOCUMENTS]]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "topics.jsonl").write_text(lines)
    files = {"data_files": {"test": str(folder / "topics.jsonl")}}
    (folder / "topics.yaml").write_text(yaml.safe_dump(_TASK | {"dataset_kwargs": files}))
    variant = {
        "criterion": {"class_path": "TopFraction", "init_args": {"fraction": 1e-4}},
        "scope": {"matrices_only": True},
    }
    model = {"pretrained": str(folder / "model"), "dtype": "float32", "generation": None}
    model |= {"variants": {"edited": variant, "zeroed": None, "sigma5": None}}
    data = {"dataset": str(folder / "topics.jsonl"), "max_length": _LENGTH, "batch_size": _ROWS}
    tree = {"model": model, "data": data, "trainer": {"accelerator": "cpu"}}
    tree["run"] = {"save_dir": str(folder / "logs"), "name": "ours"}
    (folder / "ours.yaml").write_text(yaml.safe_dump(tree))


def _ours(folder: Path) -> list[str]:
    configs = ["-c", str(PROTOCOL), "-c", str(folder / "ours.yaml")]
    return ["-m", "harness", "validate", *configs]


def _theirs(folder: Path) -> list[str]:
    # Else it would put the token before a text twice, and score the second.
    model = f"pretrained={folder / 'model'},dtype=float32,max_length={_LENGTH},add_bos_token=False"
    task = ["--tasks", "topics", "--include_path", str(folder)]
    how = ["--device", "cpu", "--batch_size", str(_ROWS), "--output_path", str(folder / "theirs")]
    return ["-m", "lm_eval", "--model", "hf", "--model_args", model, *task, *how]


def _run(command: list[str], folder: Path) -> None:
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")


def _found(folder: Path) -> str:
    """What both found of the model, as it stands in their files."""
    ours = json.loads((folder / "logs/ours/version_0/results.json").read_text())
    theirs = json.loads(next((folder / "theirs").rglob("results_*.json")).read_text())
    mine = ours["variants"]["original"]["likelihood"]["byte_perplexity"]
    return f"{mine:.6f}, lm-eval {theirs['results']['topics']['byte_perplexity,none']:.6f}"
