"""Puts batches through the original and its variants, and says what each gave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from harness.base import stages
from harness.data import PromptBatch, WindowBatch
from harness.evaluation.design import Subject
from harness.evaluation.step import Outcome, StepResult
from harness.models.head import ChunkedHead, evaluating
from harness.probes import Observation, Observer, first_nonfinite
from harness.results.schema import ORIGINAL
from harness.scoring import Tally, score_batch
from harness.writing.fluency import under_original
from harness.writing.generate import generate_batch


@dataclass(frozen=True)
class Decoding:
    """How prompts are continued.

    Attributes:
        arguments: Arguments of the model's `generate`, `max_new_tokens` among them.
        seed: Seed of the sampling: the first batch of prompts is drawn with it, the next with the
            next number, and so on.
        end_ids: Tokens that end a text.
        pad_id: What fills texts up that have ended.
    """

    arguments: Mapping[str, Any] = field(default_factory=lambda: {"max_new_tokens": 40})
    seed: int = 0
    end_ids: Collection[int] = ()
    pad_id: int = 0


@dataclass
class Evaluator:
    """Scores windows and continues prompts by a model and by the same under interventions.

    Every subject sees the very same batch as the original, in the same step, so that differences
    are paired by token. The weights are afterwards what they were, bit for bit.

    Args:
        head: The model.
        subjects: What is measured beside the original.
        observer: Observes what flows through the models; None where nothing is observed.
        every: Each so-many-th batch of the plan is observed.
        decoding: How prompts are continued.
    """

    head: ChunkedHead
    subjects: Sequence[Subject] = ()
    observer: Observer | None = field(default=None, kw_only=True)
    every: int = field(default=1, kw_only=True)
    decoding: Decoding = field(default=Decoding(), kw_only=True)
    _noted: set[str] = field(default_factory=set, init=False)

    def step(self, batch: WindowBatch | PromptBatch) -> StepResult:
        """Measures one batch.

        Args:
            batch: Windows to score, or prompts to continue.
        """
        if isinstance(batch, WindowBatch):
            subjects = [subject for subject in self.subjects if subject.takes(batch.number)]
            result = self._score(batch, subjects)
        else:
            subjects = [subject for subject in self.subjects if subject.is_thorough]
            result = self._continue(batch, subjects)
        self._say_where_broken(result, batch)
        return result

    def _score(self, batch: WindowBatch, subjects: Sequence[Subject]) -> StepResult:
        changed = {s.name: s.intervention for s in subjects if not s.is_original}
        ids, mask, targets = batch.input_ids, batch.attention_mask, batch.targets
        watch = self._watch(
            batch.number,
            lambda observer, name: observer.watching(mask, name),
            work=ids.numel() / (1 + len(changed)),
        )
        scores = score_batch(self.head, ids, mask, targets, changed, watch=watch)
        outcomes = {}
        for name in (ORIGINAL, *(subject.name for subject in subjects)):
            # What changes nothing is the original, and was not computed again.
            score = scores[name] if name in scores else scores[ORIGINAL].versus_itself()
            tally = Tally.of(batch.windows, batch.units, targets, score)
            source = name if name in scores else ORIGINAL
            outcomes[name] = Outcome(tally=tally, **watch.seen_of(source))
        return StepResult(batch.number, outcomes)

    def _continue(self, batch: PromptBatch, subjects: Sequence[Subject]) -> StepResult:
        changed = {s.name: s.intervention for s in subjects if not s.is_original}
        number = batch.step if batch.number >= 0 else batch.number
        ids, mask, how = batch.input_ids, batch.attention_mask, self.decoding
        watch = self._watch(
            number,
            lambda observer, name: observer.generating(mask, how.end_ids, name),
            work=1 / (1 + len(changed)),
        )
        written = generate_batch(
            self.head.model,
            ids,
            mask,
            {ORIGINAL: None, **changed},
            how.arguments,
            how.seed + max(0, batch.number),
            end_ids=how.end_ids,
            pad_id=how.pad_id,
            watch=watch,
        )
        written = under_original(self.head, ids, mask, written)
        outcomes = {}
        for name in (ORIGINAL, *(subject.name for subject in subjects)):
            source = name if name in written else ORIGINAL
            rows = zip(batch.prompts.tolist(), written[source], strict=True)
            texts = {prompt: text for prompt, text in rows if prompt >= 0}
            outcomes[name] = Outcome(texts=texts, **watch.seen_of(source))
        return StepResult(number, outcomes)

    def _watch(
        self,
        number: int,
        observe: Callable[[Observer, str], AbstractContextManager[Observation]],
        work: float,
    ) -> _Watch:
        turn = number >= 0 and number % self.every == 0
        if self.observer is None or not turn:
            return _Watch(set(), lambda _: nullcontext(), work)
        observed = {ORIGINAL, *(subject.name for subject in self.subjects if subject.is_thorough)}
        return _Watch(observed, partial(observe, self.observer), work)

    def _say_where_broken(self, result: StepResult, batch: WindowBatch | PromptBatch) -> None:
        """Notes, once of each model, where in it numbers cease to be finite."""
        model = self.head.model
        subjects = {subject.name: subject for subject in self.subjects}
        kind = "batch" if isinstance(batch, WindowBatch) else "prompts"
        forward = partial(model, batch.input_ids, attention_mask=batch.attention_mask)
        for name, outcome in result.outcomes.items():
            subject = subjects.get(name)
            floor = subject is not None and subject.is_floor
            if outcome.is_finite or floor or name in self._noted:
                continue
            self._noted.add(name)
            done = subject.intervention.applied(model) if subject else nullcontext()
            with evaluating(model), torch.inference_mode(), done:
                site = first_nonfinite(model, forward)
            where = f"first at {site}" if site else "in what is made of the logits"
            note = f"{name}: NaN or infinity, {where}, in {kind} {batch.number}."
            outcome.notes.append(note)


@dataclass
class _Watch:
    """Observes the models of one step, and counts the work that is done.

    Args:
        observed: Names of the models that are observed.
        observe: Gives a context in which a model is observed, by its name.
        work: What one model does, in the unit of the stage that goes on.
    """

    observed: Collection[str]
    observe: Callable[[str], AbstractContextManager[Observation | None]]
    work: float
    _seen: dict[str, Observation] = field(default_factory=dict, init=False)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Observes the forward passes of a model within the block."""
        with self.observe(name) if name in self.observed else nullcontext() as observation:
            yield
        stages.current().advance(self.work)
        if observation is not None:
            self._seen[name] = observation

    def seen_of(self, name: str) -> dict[str, Any]:
        """What was observed of a model, as parts of its outcome."""
        if name not in self._seen:
            return {}
        seen = self._seen[name]
        return {"moments": dict(seen.moments[name]), "unplaced": set(seen.unplaced)}
