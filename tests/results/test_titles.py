"""What was measured, in a few words."""

from __future__ import annotations

import dataclasses

from harness.results.titles import caption, title
from tests.report.made import make_predicted, make_results


def test_the_caption_has_the_last_part_of_paths_alone() -> None:
    results = make_results()
    assert title(results) == "llama on a.txt"
    assert caption(results) == "llama on a.txt, all: 33,058 tokens in 24 documents"
    data = dataclasses.replace(results.data, dataset=["/texts/a.txt", "some/hub"], documents=1)
    model = dataclasses.replace(results.model, pretrained="google/gemma")
    run = dataclasses.replace(results.run, partial=True)
    assert caption(dataclasses.replace(results, data=data, model=model, run=run)) == (
        "google/gemma on a.txt, some/hub, all: 33,058 tokens in 1 document "
        "(partial: not all was measured)"
    )
    assert caption(make_predicted()) == "llama"
