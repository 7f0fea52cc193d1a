"""What `validate`, `test` and `predict` do with batches: they measure the original and variants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.processes import Processes
from harness.data import PromptBatch, TextDataModule, WindowBatch
from harness.data.checks import padding_id
from harness.evaluation.design import Design, Resampling, find_subjects
from harness.evaluation.evaluator import Decoding, Evaluator
from harness.evaluation.keys import key_of, program_key, weights_key
from harness.evaluation.recall import Recall
from harness.evaluation.remarks import beforehand
from harness.evaluation.step import StepResult
from harness.models import Pretrained, try_out
from harness.outliers.variants import Variant
from harness.probes.settings import ActivationStatistics
from harness.results.schema import ORIGINAL
from harness.writing.generate import leaves_padding_out
from harness.writing.settings import Generation

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Measuring:
    """The measurement of a model and its variants.

    Args:
        source: Where the model comes from.
        variants: What is done to it, by name.
        generation: How prompts are continued; None where they are not.
        activations: What is observed.
        control_seed: Seed of the random controls.
        resampling: How intervals and p-values are made.
        command: `validate`, `test` or `predict`.
        recall: What earlier attempts have measured.
        processes: Those that measure together.
    """

    source: Pretrained
    variants: Mapping[str, Variant]
    generation: Generation | None
    activations: ActivationStatistics
    control_seed: int
    resampling: Resampling
    command: str
    recall: Recall = field(default_factory=Recall)
    processes: Processes = field(default_factory=Processes)

    def check(self) -> None:
        """Refuses, before any weight is read, what the configuration alone shows to be wrong."""
        trusted = self.source.trusts_code
        texts = self.generation
        self._metrics = texts.load_metrics("model.generation", trusted) if texts else []
        skeleton = self.source.skeleton
        for name, variant in self.variants.items():
            variant.check(f"model.variants.{name}", skeleton)
        self.activations.find(skeleton)

    def begin_evaluation(self, model: PreTrainedModel, data: TextDataModule) -> None:
        """Tries the model out and finds the outliers, now that the weights are in place."""
        head = try_out(self.source, model, data.longest_row())
        decoding = self._decoding(model)
        subjects = find_subjects(model, self.variants, self.control_seed)
        observer = self.activations.observer(model)
        record = self.source.record(model)
        corpus = None if self.command == "predict" else data.corpus(self.command)
        # Of a divided model each process has another share.
        shares = dict.fromkeys(self.processes.meet(weights_key(model)))
        weights = next(iter(shares)) if len(shares) == 1 else ""
        scoring = [
            *shares,
            program_key(model),
            head.reason,
            observer and [observer.sites, self.activations.record],
        ]
        settings = {
            "model": key_of(asdict(record)),
            "weights": weights,
            "data": key_of(data.asked(self.command), self.source.tokenizer.name_or_path),
            "text": corpus.key if corpus is not None else "",
            "windows": key_of(scoring),
            "prompts": key_of(scoring, asdict(decoding)),
        }
        self.design = Design(
            model=record,
            subjects=tuple(subjects),
            corpus=corpus,
            prompts=data.prompt_texts(self.command),
            resampling=self.resampling,
            observed=self.activations.record,
            sites=tuple(observer.sites if observer else ()),
            remarks=(
                *self.source.remarks,
                *beforehand(subjects, head.reason),
                *_on_padding(model, data.padded_prompts(self.command)),
            ),
            decode=self._decode,
            metrics=self._metrics,
            model_for_others=asdict(
                # Patches are for others too: where the folder lay here is not their business.
                replace(record, pretrained=Path(record.pretrained).name)
                if self.source.is_local
                else record
            ),
            keys={ORIGINAL: ORIGINAL} | {subject.name: subject.key for subject in subjects},
            settings=settings,
        )
        self.evaluator = Evaluator(
            head,
            subjects,
            observer=observer,
            every=self.activations.every_n_steps,
            decoding=decoding,
        )

    def step(self, batch: WindowBatch | PromptBatch) -> StepResult:
        """Measures a batch, as far as it is not known."""
        key = self._key(batch)
        known = self.recall.find(key, batch, self.design.keys) if key else {}
        step = self.evaluator.step(batch, known)
        step.key = key
        return step

    def _key(self, batch: WindowBatch | PromptBatch) -> str:
        """What is the same for batches that give the same; empty for a sentinel."""
        if not batch.key:
            return ""
        observed = self.evaluator.is_observed(batch)
        if isinstance(batch, WindowBatch):
            # Rows are found again by the order of their windows.
            order = batch.windows.argsort().tolist()
            return key_of(self.design.settings["windows"], batch.key, order, observed)
        # What is drawn at random, each batch draws with a seed of its own.
        drawn = batch.number if self.evaluator.decoding.arguments.get("do_sample") else None
        return key_of(self.design.settings["prompts"], batch.key, observed, drawn)

    def figures(self) -> dict[str, float]:
        """What is logged by Lightning: nothing, since results say all."""
        return {}

    def _decoding(self, model: PreTrainedModel) -> Decoding:
        if self.generation is None:
            return Decoding()
        end_ids = self.source.end_ids(model)
        pad_id = padding_id(self.source.tokenizer, self.source.vocabulary)
        self.generation.try_on(model, "model.generation", end_ids=end_ids, pad_id=pad_id)
        return Decoding(self.generation.to_arguments(), self.generation.seed, end_ids, pad_id)

    def _decode(self, tokens: Any) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.source.tokenizer.decode(list(tokens), skip_special_tokens=True))


def _on_padding(model: PreTrainedModel, batch: PromptBatch | None) -> list[str]:
    """Says of a model that padding changes that prompts are not continued by themselves.

    Args:
        model: The original.
        batch: Prompts that are padded, of which the shortest is tried; None where none are.
    """
    if batch is None:
        return []
    shortest = int(batch.attention_mask.sum(1).argmin())
    rows = (each[shortest].to(model.device) for each in (batch.input_ids, batch.attention_mask))
    try:
        sound = leaves_padding_out(model, *rows)
    except Exception:  # what foreign code makes of the trial is no reason to end a run
        return []
    if sound:
        return []
    return [
        "Padding changes what this model writes, so that the text after a prompt depends on the "
        "longer ones beside it; data.prompt_batch_size: 1 keeps them apart."
    ]
