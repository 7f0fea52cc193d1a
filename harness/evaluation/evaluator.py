"""Puts batches through the original and its variants, and says what each gave."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from harness.base import sent, shards, stages
from harness.base.console import note
from harness.base.memory import give_back, ran_out
from harness.data import PromptBatch, WindowBatch
from harness.evaluation.design import Subject
from harness.evaluation.step import Outcome, StepResult
from harness.models.head import ChunkedHead, evaluating
from harness.probes import Observation, Observer, first_nonfinite
from harness.results.schema import ORIGINAL
from harness.scoring import Tally, score_batch
from harness.writing.executors import Executor
from harness.writing.fluency import under_original
from harness.writing.generate import generate_batch
from harness.writing.together import Together


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
    _too_many: dict[type, int] = field(default_factory=dict, init=False)
    _executor: Executor = field(init=False)

    def __post_init__(self) -> None:
        """Lets the models write together, as far as they can."""
        self._executor = Together(self.decoding.arguments, self.decoding.pad_id)

    def step(
        self, batch: WindowBatch | PromptBatch, known: Mapping[str, Outcome] | None = None
    ) -> StepResult:
        """Measures one batch.

        Args:
            batch: Windows to score, or prompts to continue.
            known: Outcomes of this batch, by model, that are known already: where nothing else is
                asked for, no model runs.

        Returns:
            What it gave; of what is on a device it is read when it is asked for.
        """
        known = known or {}
        taken = {ORIGINAL, *(subject.name for subject in self._taking(batch))}
        names = (ORIGINAL, *(subject.name for subject in self.subjects))
        missing = [name in taken and name not in known for name in names]
        # What another process of a divided model measures has to be run here as well, and counts
        # for nothing.
        run = shards.most(self.head.model, missing)
        kept = [name for name in names if name in taken]
        recalled = sum(name in known for name in kept)
        if not any(run):
            stages.current().advance(batch.size)
            outcomes = {name: known[name] for name in kept}
            return StepResult(batch.step, outcomes, recalled=recalled)
        measured = self._measure(batch, list(itertools.compress(self.subjects, run[1:])))

        def read() -> Mapping[str, Outcome]:
            outcomes = measured()
            self._say_where_broken(outcomes, batch)
            return {name: known.get(name) or outcomes[name] for name in kept}

        later = sent.is_awaited(batch.input_ids.device)
        return StepResult(batch.step, read if later else read(), recalled=recalled)

    def is_observed(self, batch: WindowBatch | PromptBatch) -> bool:
        """Whether it is a batch's turn to be observed."""
        return self.observer is not None and batch.step >= 0 and batch.step % self.every == 0

    def _taking(self, batch: WindowBatch | PromptBatch) -> list[Subject]:
        if isinstance(batch, WindowBatch):
            return [subject for subject in self.subjects if subject.takes(batch.number)]
        return [subject for subject in self.subjects if subject.is_thorough]

    def _measure(
        self, batch: WindowBatch | PromptBatch, subjects: Sequence[Subject]
    ) -> Callable[[], dict[str, Outcome]]:
        """Runs the models, on half of the rows at a time once memory has run out."""
        rows, ids = len(batch.input_ids), batch.input_ids.numel()
        if rows == 1 or ids < self._too_many.get(type(batch), ids + 1):
            try:
                if isinstance(batch, WindowBatch):
                    return self._score(batch, subjects)
                return self._continue(batch, subjects)
            except (RuntimeError, MemoryError) as error:
                # Processes that divide a model among them have to run it equally often.
                if rows == 1 or not ran_out(error) or shards.is_divided(self.head.model):
                    raise
                self._too_many[type(batch)] = ids
                note(f"memory ran out, so batches of {ids:,} ids are taken in halves from here on")
        # Out here nothing holds on to what the attempt had in memory.
        give_back()
        halves = [self._measure(half, subjects) for half in batch.halves()]

        def read() -> dict[str, Outcome]:
            first, second = (half() for half in halves)
            for name, outcome in first.items():
                outcome.add(second[name])
            return first

        return read

    def _score(
        self, batch: WindowBatch, subjects: Sequence[Subject]
    ) -> Callable[[], dict[str, Outcome]]:
        changed = {s.name: s.intervention for s in subjects if not s.is_original}
        ids, mask, targets = batch.input_ids, batch.attention_mask, batch.targets
        watch = self._watch(
            batch,
            lambda observer, names: observer.watching(mask, *names),
            work=batch.size / (1 + len(changed)),
        )
        scored = score_batch(self.head, ids, mask, targets, changed, watch=watch)

        def read() -> dict[str, Outcome]:
            scores, outcomes = scored.read(), {}
            for name in (ORIGINAL, *(subject.name for subject in subjects)):
                # What changes nothing is the original, and was not computed again.
                score = scores[name] if name in scores else scores[ORIGINAL].versus_itself()
                tally = Tally.of(batch.windows, batch.units, targets, score)
                source = name if name in scores else ORIGINAL
                outcomes[name] = Outcome(tally=tally, **watch.seen_of(source))
            return outcomes

        return read

    def _continue(
        self, batch: PromptBatch, subjects: Sequence[Subject]
    ) -> Callable[[], dict[str, Outcome]]:
        changed = {s.name: s.intervention for s in subjects if not s.is_original}
        ids, mask, how = batch.input_ids, batch.attention_mask, self.decoding
        watch = self._watch(
            batch,
            lambda observer, names: observer.generating(
                mask.repeat(len(names), 1),
                how.end_ids,
                [name for name in names for _ in range(len(mask))],
            ),
            work=batch.size / (1 + len(changed)),
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
            executor=self._executor,
        )
        texts = under_original(self.head, ids, mask, written)

        def read() -> dict[str, Outcome]:
            outcomes = {}
            for name in (ORIGINAL, *(subject.name for subject in subjects)):
                source = name if name in texts else ORIGINAL
                rows = zip(batch.prompts.tolist(), texts[source], strict=True)
                own = {prompt: text for prompt, text in rows if prompt >= 0}
                outcomes[name] = Outcome(texts=own, **watch.seen_of(source))
            return outcomes

        return read

    def _watch(
        self,
        batch: WindowBatch | PromptBatch,
        observe: Callable[[Observer, Sequence[str]], AbstractContextManager[Observation]],
        work: float,
    ) -> _Watch:
        if self.observer is None or not self.is_observed(batch):
            return _Watch(set(), lambda _: nullcontext(), work)
        observed = {ORIGINAL, *(subject.name for subject in self.subjects if subject.is_thorough)}
        return _Watch(observed, partial(observe, self.observer), work)

    def _say_where_broken(
        self, outcomes: Mapping[str, Outcome], batch: WindowBatch | PromptBatch
    ) -> None:
        """Notes, once of each model, where in it numbers cease to be finite."""
        model = self.head.model
        subjects = {subject.name: subject for subject in self.subjects}
        kind = "batch" if isinstance(batch, WindowBatch) else "prompts"
        forward = partial(model, batch.input_ids, attention_mask=batch.attention_mask)
        broken = {name for name, outcome in outcomes.items() if not outcome.is_finite}
        broken -= self._noted
        names = [ORIGINAL, *(name for name, subject in subjects.items() if not subject.is_floor)]
        # What is broken in another process is run here as well.
        looks = shards.most(model, [name in broken for name in names])
        for name in itertools.compress(names, looks):
            subject = subjects.get(name)
            done = subject.intervention.applied(model) if subject else nullcontext()
            with evaluating(model), torch.inference_mode(), done:
                site = first_nonfinite(model, forward)
            if name not in broken:
                continue
            self._noted.add(name)
            where = f"first at {site}" if site else "in what is made of the logits"
            outcomes[name].notes.append(
                f"{name}: NaN or infinity, {where}, in {kind} {batch.number}."
            )


@dataclass
class _Watch:
    """Observes the models of one step, and counts the work that is done.

    Args:
        observed: Names of the models that are observed.
        observe: Gives a context in which models are observed whose rows are in one batch, by their
            names.
        work: What one model does, in the unit of the stage that goes on.
    """

    observed: Collection[str]
    observe: Callable[[Sequence[str]], AbstractContextManager[Observation | None]]
    work: float
    _seen: dict[str, Observation] = field(default_factory=dict, init=False)

    @contextmanager
    def __call__(self, names: str | Sequence[str]) -> Iterator[None]:
        """Observes the forward passes of a model, or of several together, within the block."""
        names = (names,) if isinstance(names, str) else names
        observed = [name for name in names if name in self.observed]
        with self.observe(names) if observed else nullcontext() as observation:
            yield
        stages.current().advance(len(names) * self.work)
        if observation is not None:
            self._seen |= dict.fromkeys(observed, observation)

    def seen_of(self, name: str) -> dict[str, Any]:
        """What was observed of a model, as parts of its outcome."""
        if name not in self._seen:
            return {}
        seen = self._seen[name]
        return {"moments": dict(seen.moments[name]), "unplaced": set(seen.unplaced)}
