"""What earlier attempts at a run have measured, found again by what it was measured of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
            for _, place in file.news():
                if file.about.get("version") != VERSION:
                    reason = f"was written by another version, of journals {VERSION}; begin anew"
                    raise ConfigError("resume", str(path), reason)
                self._places[place.key].append(place)
            if file.about:
                self._settings.append(file.about["settings"])

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

    def find(self, key: str, batch: WindowBatch | PromptBatch) -> dict[str, Outcome]:
        """What is known of a batch, by the key of what was done to the model.

        Args:
            key: Of the batch and the setting in which it is measured.
            batch: The batch, whose numbers in the present plan the outcomes get.
        """
        known: dict[str, Outcome] = {}
        for place in self._places.get(key, ()):
            subjects: Mapping[str, str] = place.file.about["subjects"]
            step = StepResult.from_bytes(place.read())
            for name, outcome in step.outcomes.items():
                if not outcome.notes:  # they speak of the batch by its number
                    known.setdefault(subjects[name], _renumbered(outcome, batch))
        return known


def _renumbered(outcome: Outcome, batch: WindowBatch | PromptBatch) -> Outcome:
    """The outcome of the same rows, by the numbers that they have now."""
    if isinstance(batch, WindowBatch):
        outcome.tally = outcome.tally.renumbered(batch.windows.cpu(), batch.units.cpu())
    else:
        numbers = [number for number in batch.prompts.tolist() if number >= 0]
        outcome.texts = dict(zip(numbers, outcome.texts.values(), strict=True))
    return outcome
