"""Our metrics through ``evaluate`` against the pure functions; foreign ones, and how they fail."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import evaluate
import pytest

from harness.errors import ConfigError
from harness.writing.degeneration import FIGURES, degeneration, repetition
from harness.writing.text_metrics import (
    Degeneration,
    TextFigures,
    compute_metric,
    load_metric,
)
from tests.writing.continuing import continuations

KEY = "model.generation.metrics"


@pytest.fixture
def cache() -> Path:
    return Path(evaluate.config.HF_METRICS_CACHE)


def script(
    folder: Path, name: str, returned: str, inputs: str = "predictions", top: str = ""
) -> str:
    """Writes a metric that returns an expression of its inputs; gives its path."""
    features = ", ".join(f"{column}=Value('string')" for column in inputs.split(", "))
    path = folder / f"{name}.py"
    path.write_text(
        dedent(f"""
        import evaluate
        from datasets import Features, Value
        {top}

        class Local(evaluate.Metric):
            def _info(self):
                return evaluate.MetricInfo(
                    description="", citation="", features=Features({features})
                )

            def _compute(self, {inputs}):
                return {returned}
        """)
    )
    return str(path)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_combined_are_the_pure_functions(seed: int, cache: Path) -> None:
    before = set(cache.rglob("*"))
    texts = continuations(20, seed=seed)
    combined = evaluate.combine([Degeneration(name) for name in FIGURES])
    expected = degeneration(map(repetition, texts))
    assert combined.compute(predictions=texts) == expected
    for ids in texts:
        combined.add(prediction=ids)
    assert combined.compute() == expected
    assert set(cache.rglob("*")) == before


def test_our_metrics_are_the_figures() -> None:
    for name in FIGURES:
        metric = load_metric(name, KEY, trusted=True)
        assert isinstance(metric, Degeneration)
        assert metric.compute(predictions=[[1] * 20]) == {
            name: degeneration([repetition([1] * 20)])[name]
        }


def test_strings_are_split_on_white_space() -> None:
    ids = continuations(15, seed=4)
    texts = [" \n".join(f"word{i}" for i in text) for text in ids]
    for name in FIGURES:
        metric = Degeneration(name)
        assert metric.compute(predictions=texts) == metric.compute(predictions=ids), name
        figures, problem = compute_metric(load_metric(name, KEY, trusted=True), texts)
        assert (figures, problem) == (metric.compute(predictions=ids), None)


def test_the_first_text_may_be_empty_and_figures_undefined() -> None:
    assert Degeneration("distinct_2").compute(predictions=[[], [1, 2]]) == {"distinct_2": 0.5}
    assert Degeneration("seq_rep_4").compute(predictions=[[]]) == {"seq_rep_4": None}
    assert compute_metric(Degeneration("seq_rep_4"), [""]) == TextFigures({})


def test_a_metric_can_be_used_again() -> None:
    metric = Degeneration("loop_rate")
    assert metric.compute(predictions=[[1] * 20]) == {"loop_rate": 1.0}
    assert metric.compute(predictions=[[1], [2]]) == {"loop_rate": 0.0}


def test_on_disk_if_asked_for(tmp_path: Path) -> None:
    metric = Degeneration("loop_rate", keep_in_memory=False, cache_dir=str(tmp_path))
    assert metric.compute(predictions=[[1] * 20, [2]]) == {"loop_rate": 0.5}
    assert (tmp_path / "degeneration" / "loop_rate").is_dir()


def test_a_local_script(tmp_path: Path) -> None:
    path = script(tmp_path, "length", "{'words': sum(len(p.split()) for p in predictions)}")
    metric = load_metric(path, KEY, trusted=True)
    assert compute_metric(metric, ["a b", "c"]) == TextFigures({"words": 3.0})
    assert compute_metric(metric, ["a"], references=["unused"]) == TextFigures({"words": 1.0})


def test_references_where_they_are_needed(tmp_path: Path) -> None:
    inputs = "predictions, references"
    same = "{'same': [p == r for p, r in zip(predictions, references)]}"
    metric = load_metric(script(tmp_path, "same", same, inputs), KEY, trusted=True)
    assert compute_metric(metric, ["a", "b"], ["a", "c"]) == TextFigures({"same": 0.5})
    assert compute_metric(metric, ["a"]).problem == "local needs references, and there are none"
    # Of texts that do not match, one line; and none of them is left for the next call.
    figures, problem = compute_metric(metric, ["a", "b"], ["a"])
    assert figures == {}
    assert problem is not None
    assert problem.startswith("local failed: ValueError: Mismatch")
    assert compute_metric(metric, ["a"], ["a"]) == TextFigures({"same": 1.0})


def test_a_measurement_calls_its_texts_otherwise(tmp_path: Path) -> None:
    metric = load_metric(script(tmp_path, "data", "{'n': len(data)}", "data"), KEY, trusted=True)
    assert compute_metric(metric, ["a", "b"]) == TextFigures({"n": 2.0})
    more = load_metric(script(tmp_path, "more", "{}", "predictions, sources"), KEY, trusted=True)
    assert compute_metric(more, ["a"]).problem == (
        "local needs predictions, sources: more than texts"
    )


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("{'a': 1, 'b': True, 'c': np.float32(0.5)}", {"a": 1.0, "b": 1.0, "c": 0.5}),
        ("{'a': [1, 2.0], 'b': np.array([[1, 2], [3, 6]]), 'c': (4,)}", {"a": 1.5, "b": 3, "c": 4}),
        ("{'a': {'f1': 0.5, 'by': {'x': [1, 3]}}, 'f1': 2}", {"a_f1": 0.5, "a_by_x": 2, "f1": 2}),
        ("{'a': 'hash', 'b': None, 'c': [], 'd': ['x'], 'e': [[1]]}", {}),
        ("0.25", {"local": 0.25}),
        ("{}", {}),
    ],
)
def test_what_metrics_return_becomes_numbers(
    tmp_path: Path, returned: str, expected: dict[str, float]
) -> None:
    path = script(tmp_path, "flat", returned, top="import numpy as np")
    figures, problem = compute_metric(load_metric(path, KEY, trusted=True), ["x"])
    assert problem is None
    assert figures == expected
    assert all(type(value) is float for value in figures.values())


def test_numbers_that_are_none_stay_so(tmp_path: Path) -> None:
    metric = load_metric(script(tmp_path, "nan", "{'a': float('nan')}"), KEY, trusted=True)
    assert math.isnan(compute_metric(metric, ["x"]).figures["a"])


def test_chance_is_the_same_each_time(tmp_path: Path) -> None:
    path = script(tmp_path, "chance", "{'a': np.random.rand()}", top="import numpy as np")
    drawn = [compute_metric(load_metric(path, KEY, trusted=True), ["x"]) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_a_metric_that_fails_says_so_in_one_line(tmp_path: Path) -> None:
    message = "'two\\nlines ' + 'and more ' * 1000"
    path = script(tmp_path, "failing", f"(_ for _ in ()).throw(RuntimeError({message}))")
    metric = load_metric(path, KEY, trusted=True)
    for _ in range(2):
        figures, problem = compute_metric(metric, ["x"])
        assert figures == {}
        assert problem is not None
        assert problem.startswith("local failed: RuntimeError: two lines and more")
        assert "\n" not in problem
        assert len(problem) < 400
    assert compute_metric(metric, []).problem == "local has no texts to measure"
    ours = load_metric("seq_rep_4", KEY, trusted=True)
    assert compute_metric(ours, []).problem == "seq_rep_4 has no texts to measure"


@pytest.mark.parametrize("kind", ["script", "hub"])
def test_code_of_others_runs_only_where_it_is_allowed(tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "ran"
    path = script(tmp_path, "mine", "{}", top=f"open({str(mark)!r}, 'w').close()")
    name = path if kind == "script" else "rouge"
    with pytest.raises(ConfigError, match=r"allow it by model\.trust_remote_code=true") as error:
        load_metric(name, KEY, trusted=False)
    assert (error.value.key, error.value.value) == (KEY, name)
    assert not mark.exists()
    for ours in FIGURES:
        assert isinstance(load_metric(ours, KEY, trusted=False), Degeneration)


@pytest.mark.parametrize("name", ["no_such_metric", "nobody/nothing", "./missing.py", "/a/b/c"])
def test_what_is_not_found_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no such script here, and the Hugging Face hub") as error:
        load_metric(name, KEY, trusted=True)
    assert error.value.key == KEY
    assert error.value.value == name
    assert "seq_rep_4, distinct_2, diversity, loop_rate" in error.value.reason
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    path = script(tmp_path, "needy", "{}", top="import no_such_package_anywhere")
    with pytest.raises(ConfigError, match=r"package is missing: .*no_such_package_anywhere"):
        load_metric(path, KEY, trusted=True)


def test_imports_that_evaluate_does_not_read_are_named(tmp_path: Path) -> None:
    path = script(tmp_path, "listing", "{}", top="import json, math")
    with pytest.raises(ConfigError, match="one import a line"):
        load_metric(path, KEY, trusted=True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1", "TypeError"),
        ("def broken(:", "SyntaxError"),
        ("from evaluate import Metric", "NotImplementedError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_script_without_a_metric_is_refused(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / f"{said[:4].lower()}.py"
    path.write_text(source)
    with pytest.raises(ConfigError, match=f"fails or defines no metric: {said}") as error:
        load_metric(str(path), KEY, trusted=True)
    assert "\n" not in str(error.value)


def test_the_package_does_not_import_evaluate() -> None:
    code = "import sys, harness.scoring; assert 'evaluate' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
