"""The LightningModule: batches through the original and its variants, and plain training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jsonargparse.typing import OpenUnitInterval, PositiveInt
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from harness.base import stages
from harness.data import PromptBatch, WindowBatch
from harness.evaluation.caveats import Caveats
from harness.evaluation.training import Training
from harness.models import DType, Pretrained, try_out
from harness.outliers import Patch
from harness.outliers.rounding import nudged
from harness.outliers.variants import (
    ORIGINAL,
    Variant,
    VariantConfig,
    build_variants,
    check_configs,
    check_scopes,
)
from harness.probes import Observation, Observer
from harness.scoring import Tally, score_batch
from harness.writing.fluency import under_original
from harness.writing.generate import Continuation, generate_batch
from harness.writing.settings import Generation

# No variant can have these names.
NOISE_FLOOR = "(original again)"
ROUNDING = "(original, rounded otherwise)"
_NOISE_FLOOR_BATCHES = 8
_NOTHING = Patch(())


class OutlierExperiment(LightningModule):
    """Scores a language model and copies of it whose outliers were edited.

    Every variant sees the very same batch as the original, in the same step, as a sparse patch on
    one set of weights.

    Args:
        pretrained: Hub id or local folder of a Hugging Face causal language model, or of an adapter
            of PEFT, which is merged; a GGUF file (`owner/name/file.gguf` on the hub), which is
            dequantised; or `demo` for the embedded model.
        revision: Branch, tag or commit on the hub.
        dtype: Data type of the weights; it decides the precision of the evaluation. `auto` takes
            what the model's config.json says, and float32 for GGUF files.
        attn_implementation: Attention kernel as transformers names it, for example `sdpa`.
        device_map: Placement of the weights as accelerate reads it, for example `auto`. Without
            it the model lies on one device.
        tokenizer: Hub id, folder or GGUF file of the tokenizer. Null: the model's own.
        trust_remote_code: Whether code in the model's repository and in metrics may run here.
        force_dtype: Accept a data type that overflows in this model, such as float16 in Gemma-3.
        architecture: For `fit` from scratch: a Hugging Face configuration (`model_type`,
            `hidden_size`, ...) of a model that starts from random weights. Null: `pretrained`.
        training: Optimiser of `fit`.
        variants: Interventions by name. Each is a criterion and an edit, or a saved patch; null
            leaves one of the default out, `zeroed` or `sigma5`.
        generation: How the models continue the prompts of `data.prompts`. Null: they do not.
        control_seed: Seed of the random controls; `seed_everything` does not touch them.
        resamples: Random changes of sign behind the p-values over documents.
        confidence: Coverage of the intervals.
    """

    def __init__(
        self,
        pretrained: str = "demo",
        revision: str | None = None,
        dtype: DType = "auto",
        attn_implementation: str | None = None,
        device_map: str | dict[str, Any] | None = None,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        force_dtype: bool = False,
        architecture: dict[str, Any] | None = None,
        training: Training | None = None,
        variants: dict[str, VariantConfig | None] | None = None,
        generation: Generation | None = None,
        control_seed: int = 0,
        resamples: PositiveInt = 10_000,
        confidence: OpenUnitInterval = 0.95,
    ) -> None:
        super().__init__()
        self.source = Pretrained(
            pretrained,
            revision=revision,
            dtype=dtype,
            attn_implementation=attn_implementation,
            device_map=device_map,
            tokenizer=tokenizer,
            trust_remote_code=trust_remote_code,
            force_dtype=force_dtype,
            architecture=architecture,
        )
        self.training_settings = training or Training()
        self.training_settings.check("model.training")
        self.variant_configs = {n: v for n, v in (variants or {}).items() if v is not None}
        self.generation = generation
        if generation is not None:
            generation.check("model.generation")
            self.source.new_tokens = generation.max_new_tokens
        self.control_seed = control_seed
        self.resamples = resamples
        self.confidence = confidence
        self.variants: list[Variant] = []
        self.rounding = _NOTHING
        self.tallies: dict[str, Tally] = {}
        self.texts: dict[str, dict[int, Continuation]] = {}
        self.metrics: list[Any] = []
        # Set for each step by whoever keeps what was observed.
        self.observer: Observer | None = None
        self.observed: dict[str, Observation] = {}
        check_configs(self.variant_configs)

    # -- set-up ------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuses, before any weight is read, what the configuration alone shows to be wrong."""
        self.source.check()
        if self.generation is not None and stage != "fit":
            self.metrics = self.generation.load_metrics("model.generation", self.source.trusts_code)
        if stage != "fit":
            check_scopes(self.variant_configs, self.source.skeleton())

    def configure_model(self) -> None:
        """Loads the weights; Lightning calls this after the data was accepted."""
        if hasattr(self, "model"):
            return
        with stages.stage(f"loading {self.source.title}"):
            model = self.source.load()
        if self.source.device_map is None:
            self.model = model
        else:
            # accelerate has placed it: as a submodule Lightning would move it to one device.
            self.__dict__["model"] = model

    def on_fit_start(self) -> None:
        """Training has no variants: their entries would move with the weights."""
        self.model.train()
        self.rounding = _NOTHING
        self._measure_with(lambda _: [])

    def on_validation_start(self) -> None:
        """Finds the outliers, now that the weights are in place and on their device."""
        if self.trainer.state.fn != "fit":
            self.rounding = nudged(self.model)
            self._measure_with(
                lambda model: build_variants(model, self.variant_configs, self.control_seed)
            )

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def _measure_with(self, build: Callable[[nn.Module], list[Variant]]) -> None:
        self.head = try_out(self.source, self.model, getattr(self.trainer, "datamodule", None))
        if self.generation is not None and self.trainer.state.fn != "fit":
            end_ids, pad_id = self.source.end_and_pad(self.model)
            key = "model.generation"
            self.generation.try_on(self.model, key, end_ids=end_ids, pad_id=pad_id)
        self.variants = build(self.model)
        self.caveats = Caveats(self.head, self.variants)

    # -- scoring -----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Begins a new measurement."""
        names = [ORIGINAL, *(variant.name for variant in self.variants), NOISE_FLOOR, ROUNDING]
        self.tallies = {name: Tally() for name in names}
        self.texts = {name: {} for name in self._leaders()}

    on_test_epoch_start = on_validation_epoch_start
    on_predict_epoch_start = on_validation_epoch_start

    def validation_step(
        self, batch: WindowBatch | PromptBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Mapping[str, object]:
        """Scores windows, or continues prompts, by the original and every variant.

        Args:
            batch: Windows or prompts of the plan.
            batch_idx: Position of the batch in this process.
            dataloader_idx: 0 for windows, 1 for prompts.

        Returns:
            By variant, the scores of every scored token, or the continuations.
        """
        if isinstance(batch, PromptBatch):
            return self.predict_step(batch, batch_idx)
        patches = {v.name: v.patch for v in self.variants if v.patch.entries}
        if batch.number < _NOISE_FLOOR_BATCHES:
            if self.rounding.entries:
                patches[ROUNDING] = self.rounding
            # After every other variant has come and gone: the weights must be back as they were.
            patches[NOISE_FLOOR] = _NOTHING
        scores = score_batch(
            self.head,
            batch.input_ids,
            batch.attention_mask,
            batch.targets,
            patches,
            watch=partial(
                self._watching,
                lambda o, name: o.watching(batch.attention_mask, name),
                work=batch.input_ids.numel() / (1 + len(patches)),
            ),
        )
        # What edits nothing is the original, and is not computed again.
        for name in self._unedited():
            scores[name] = scores[ORIGINAL].versus_itself()
        for name, score in scores.items():
            finite = self.tallies[name].add(batch.windows, batch.units, batch.targets, score)
            if not finite and name not in (NOISE_FLOOR, ROUNDING):
                self.caveats.not_finite(name, patches.get(name, _NOTHING), self.model, batch)
        return scores

    test_step = validation_step

    def predict_step(
        self, batch: PromptBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> Mapping[str, object]:
        """Continues prompts by the original, every variant and its first control.

        Args:
            batch: Prompts of the plan.
            batch_idx: Position of the batch in this process.
            dataloader_idx: Number of the loader.

        Returns:
            By variant, the continuations.
        """
        assert self.generation is not None  # or there would be no prompts
        patches = {n: p for n, p in self._leaders().items() if n not in self._unedited()}
        end_ids, pad_id = self.source.end_and_pad(self.model)
        written = generate_batch(
            self.model,
            batch.input_ids,
            batch.attention_mask,
            patches,
            self.generation.to_arguments(),
            self.generation.seed + max(0, batch.number),
            end_ids=end_ids,
            pad_id=pad_id,
            watch=partial(
                self._watching,
                lambda o, name: o.generating(batch.attention_mask, end_ids, name),
                work=1 / len(patches),
            ),
        )
        written = under_original(self.head, batch.input_ids, batch.attention_mask, written)
        self.caveats.padded(self.model, batch)
        written |= dict.fromkeys(self._unedited(), written[ORIGINAL])
        for name, continuations in written.items():
            rows = zip(batch.prompts.tolist(), continuations, strict=True)
            self.texts[name] |= {prompt: row for prompt, row in rows if prompt >= 0}
            if any(continuation.broken for continuation in continuations):
                self.caveats.not_finite(name, patches.get(name, _NOTHING), self.model, batch)
        return written

    def _unedited(self) -> list[str]:
        """Variants whose criterion selects nothing: they are the original."""
        return [variant.name for variant in self.variants if not variant.patch.entries]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.source.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _leaders(self) -> dict[str, Patch]:
        """The original, each variant and its first control: what writes, and is observed."""
        leading = {variant.name: variant.patch for variant in self.variants if variant.leads}
        return {ORIGINAL: _NOTHING, **leading}

    @contextmanager
    def _watching(
        self,
        observe: Callable[[Observer, str], AbstractContextManager[Observation]],
        name: str,
        work: float = 0.0,
    ) -> Iterator[None]:
        if name == ORIGINAL:
            self.observed = {}
        if self.observer is None or name not in self._leaders():
            yield
            stages.current().advance(work)
            return
        with observe(self.observer, name) as observation:
            yield
        stages.current().advance(work)
        self.observed[name] = observation
        if name == ORIGINAL:
            self.observed |= {
                unedited: replace(observation, moments={unedited: observation.moments[name]})
                for unedited in self._unedited()
            }

    def on_validation_epoch_end(self) -> None:
        """Logs the likelihood of the validation split during `fit`."""
        if self.trainer.state.fn == "fit":
            rows = self.tallies[ORIGINAL].rows
            nll = math.fsum(row.nll for row in rows) / sum(row.tokens for row in rows)
            self.log("likelihood/nll", nll, prog_bar=True)

    # -- training ----------------------------------------------------------------------------

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        """Next-token loss of one batch, in nats per token."""
        with self._watching(lambda o, n: o.watching(batch.attention_mask, n), ORIGINAL):
            logits = self.model(batch.input_ids, attention_mask=batch.attention_mask).logits
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), batch.targets.flatten(), ignore_index=-100
        )
        self.log("likelihood/train_nll", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up and cosine, as `training` says."""
        optimizer = self.training_settings.optimizer(self.model)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.training_settings.schedule(optimizer, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
