"""What earlier attempts at a run have measured, found again by what it was measured of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from harness.data import PromptBatch, WindowBatch
from harness.errors import ConfigError
from harness.evaluation.design import Design
from harness.evaluation.step import Outcome, StepResult
from harness.evaluation.step_file import Place, StepFile

VERSION = 1
"""Of what journals hold: those of another version are not read."""


class Recall:
    """The outcomes that lie in journals, by the key of the batch and of the intervention.

    Args:
        paths: Files of steps, of which everything up to what is damaged counts.

    Raises:
        ConfigError: If one was written by another version.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._places: dict[str, list[Place]] = defaultdict(list)
        self._settings: list[Mapping[str, str]] = []
        for path in paths:
            file = StepFile(path)
            places = [place for _, place in file.news()]
            if not file.about:  # nothing whole was written
                continue
            if (written := file.about.get("version")) != VERSION:
                reason = f"is a journal of version {written}, not {VERSION}; begin a new run"
                raise ConfigError("resume", str(path), reason)
            self._settings.append(file.about["settings"])
            for place in places:
                self._places[place.key].append(place)

    @property
    def batches(self) -> int:
        """How many batches were measured, at least in part."""
        return len(self._places)

    def check(self, design: Design) -> None:
        """Refuses to go on with a model or a text that is not what it was.

        Args:
            design: What is measured now; with other settings it may be anything.

        Raises:
            ConfigError: If the settings are those of an earlier attempt, and what they give is not.
        """
        given = {"data": ("text", "data.dataset"), "model": ("weights", "model.pretrained")}
        dataset = design.corpus.record.dataset if design.corpus else None
        values = {"data": dataset, "model": design.model.pretrained}
        now = design.settings
        for before in self._settings:
            for asked, (found, key) in given.items():
                same = before.get(asked) == now.get(asked)
                were, are = before.get(found), now.get(found)
                # Of a model that is or was divided the weights cannot be compared.
                if same and were and are and were != are:
                    reason = "is not what it was when this run began; begin a new one"
                    raise ConfigError(key, values[asked], reason)

    def find(
        self, key: str, batch: WindowBatch | PromptBatch, wanted: Mapping[str, str]
    ) -> dict[str, Outcome]:
        """What is known of a batch, by name.

        Args:
            key: Of the batch and the setting in which it is measured.
            batch: The batch, whose numbers in the present plan the outcomes get.
            wanted: What is looked for: the key of what is done to the model, by name.
        """
        known: dict[str, Outcome] = {}
        for place in self._places.get(key, ()):
            if known.keys() == wanted.keys():
                break
            subjects: Mapping[str, str] = place.file.about["subjects"]
            outcomes = StepResult.from_bytes(place.read()).outcomes
            # Notes speak of the batch by its number.
            found = {subjects[n]: each for n, each in outcomes.items() if not each.notes}
            for name, asked in wanted.items():
                if name not in known and asked in found:
                    known[name] = _renumbered(found[asked], batch)
        return known


def _renumbered(outcome: Outcome, batch: WindowBatch | PromptBatch) -> Outcome:
    """The outcome of the same rows, by the numbers that they have now."""
    if isinstance(batch, WindowBatch):
        tally = outcome.tally.renumbered(batch.windows, batch.units)
        return replace(outcome, tally=tally)
    numbers = [number for number in batch.prompts.tolist() if number >= 0]
    return replace(outcome, texts=dict(zip(numbers, outcome.texts.values(), strict=True)))
