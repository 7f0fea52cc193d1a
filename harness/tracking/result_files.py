"""The files that results make: tables, reports, rows per document, texts and patches."""

from __future__ import annotations

from typing import Any

from harness import report
from harness.base.files import write_text
from harness.evaluation.design import Design
from harness.evaluation.measurement import Totals
from harness.results.codec import to_json
from harness.results.schema import Results
from harness.tracking.run_folder import RunFolder
from harness.tracking.writer import Writer


class ResultFiles(Writer):
    """Writes what a measurement came to.

    Attributes:
        rows: The rows of ``generations.jsonl``.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def open(self, folder: RunFolder) -> None:
        """Names the folder that is written to."""
        self._folder = folder.path

    def finish(self, results: Results, totals: Totals, design: Design) -> None:
        """Writes all files."""
        write_text(self._folder / "results.json", to_json(results))
        write_text(self._folder / "report.md", report.markdown(results))
        report.save_variants(self._folder / "variants.csv", results)
        if design.corpus is not None:
            tallies = {name: outcome.tally for name, outcome in totals.scored.items()}
            names = [*results.variants, *results.controls]
            path = self._folder / "documents.parquet"
            report.save_documents(path, tallies, design.corpus.units, names)
        self.rows = totals.text_rows(design)
        if self.rows:
            report.save_generations(self._folder / "generations.jsonl", self.rows)
        for subject in design.subjects:
            if subject.patch_file is not None:
                path = self._folder / subject.patch_file
                path.parent.mkdir(exist_ok=True)
                subject.intervention.save(path, design.model_for_others)
