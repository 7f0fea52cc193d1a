"""Puts batches through the original and its variants, and says what each gave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.base import stages
from harness.data import PromptBatch, WindowBatch
from harness.evaluation.design import Subject
from harness.evaluation.step import Outcome, StepResult
from harness.models.head import ChunkedHead
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

    def __init__(
        self,
        head: ChunkedHead,
        subjects: Sequence[Subject] = (),
        *,
        observer: Observer | None = None,
        every: int = 1,
        decoding: Decoding | None = None,
    ) -> None:
        self.head = head
        self.subjects = subjects
        self.observer = observer
        self.every = every
        self.decoding = decoding or Decoding()
        self._told: set[str] = set()

    def step(self, batch: WindowBatch | PromptBatch) -> StepResult:
        """Measures one batch.

        Args:
            batch: Windows to score, or prompts to continue.
        """
        return self._read(batch) if isinstance(batch, WindowBatch) else self._write(batch)

    def _read(self, batch: WindowBatch) -> StepResult:
        subjects = [subject for subject in self.subjects if subject.takes(batch.number)]
        changed = {s.name: s.intervention for s in subjects if not s.is_original}
        watch = self._watch(
            batch.number,
            lambda observer, name: observer.watching(batch.attention_mask, name),
            work=batch.input_ids.numel() / (1 + len(changed)),
        )
        scores = score_batch(
            self.head, batch.input_ids, batch.attention_mask, batch.targets, changed, watch=watch
        )
        outcomes: dict[str, Outcome] = {}
        for name in (ORIGINAL, *(subject.name for subject in subjects)):
            # What changes nothing is the original, and was not computed again.
            score = scores[name] if name in scores else scores[ORIGINAL].versus_itself()
            tally = Tally.of(batch.windows, batch.units, batch.targets, score)
            outcomes[name] = watch.outcome(name, Outcome(tally=tally))
        broken = [name for name, outcome in outcomes.items() if not outcome.tally.is_finite]
        self._say_where_broken(outcomes, broken, batch)
        return StepResult(batch.number, outcomes)

    def _write(self, batch: PromptBatch) -> StepResult:
        subjects = [subject for subject in self.subjects if subject.is_thorough]
        changed = {s.name: s.intervention for s in subjects if not s.is_original}
        number = batch.step if batch.number >= 0 else batch.number
        how = self.decoding
        watch = self._watch(
            number,
            lambda observer, name: observer.generating(batch.attention_mask, how.end_ids, name),
            work=1 / (1 + len(changed)),
        )
        ids, mask = batch.input_ids, batch.attention_mask
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
        outcomes: dict[str, Outcome] = {}
        for name in (ORIGINAL, *(subject.name for subject in subjects)):
            rows = zip(batch.prompts.tolist(), written.get(name, written[ORIGINAL]), strict=True)
            texts = {prompt: text for prompt, text in rows if prompt >= 0}
            outcomes[name] = watch.outcome(name, Outcome(texts=texts))
        broken = [n for n, o in outcomes.items() if any(t.broken for t in o.texts.values())]
        self._say_where_broken(outcomes, broken, batch)
        return StepResult(number, outcomes)

    def _watch(
        self,
        number: int,
        observe: Callable[[Observer, str], AbstractContextManager[Observation]],
        work: float,
    ) -> _Watch:
        turn = number >= 0 and number % self.every == 0
        if self.observer is None or not turn:
            return _Watch({}, lambda _: nullcontext(), work)
        thorough = [subject for subject in self.subjects if subject.is_thorough]
        originals = [subject.name for subject in thorough if subject.is_original]
        stands_for = {ORIGINAL: originals} | {s.name: [] for s in thorough if not s.is_original}
        return _Watch(stands_for, partial(observe, self.observer), work)

    def _say_where_broken(
        self,
        outcomes: Mapping[str, Outcome],
        broken: Collection[str],
        batch: WindowBatch | PromptBatch,
    ) -> None:
        """Notes, once of each model, where in it numbers cease to be finite."""
        model = self.head.model
        done = {subject.name: subject for subject in self.subjects}
        for name in broken:
            subject = done.get(name)
            if name in self._told or (subject is not None and subject.steps is not None):
                continue
            self._told.add(name)
            forward = partial(model, batch.input_ids, attention_mask=batch.attention_mask)
            with subject.intervention.applied(model) if subject else nullcontext():
                site = first_nonfinite(model, forward)
            where = f"first at {site}" if site else "in what is made of the logits"
            kind = "prompts" if isinstance(batch, PromptBatch) else "batch"
            note = f"{name}: NaN or infinity, {where}, in {kind} {batch.number}."
            outcomes[name].notes.append(note)


class _Watch:
    """Observes the models of one step, and counts the work that is done.

    Args:
        stands_for: The models that are observed, and the names of those that are the same.
        observe: Gives a context in which a model is observed, by its name.
        work: What one model does, in the unit of the stage that goes on.
    """

    def __init__(
        self,
        stands_for: Mapping[str, Sequence[str]],
        observe: Callable[[str], AbstractContextManager[Observation | None]],
        work: float,
    ) -> None:
        self._stands_for = stands_for
        self._observe = observe
        self._work = work
        self._seen: dict[str, tuple[str, Observation]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Observes the forward passes of a model within the block."""
        with self._observe(name) if name in self._stands_for else nullcontext() as observation:
            yield
        stages.current().advance(self._work)
        if observation is not None:
            for each in (name, *self._stands_for[name]):
                self._seen[each] = name, observation

    def outcome(self, name: str, outcome: Outcome) -> Outcome:
        """Adds to an outcome what was observed of the model."""
        if name in self._seen:
            owner, observation = self._seen[name]
            outcome.moments = observation.moments.get(owner, {})
            outcome.unplaced = observation.unplaced
        return outcome
