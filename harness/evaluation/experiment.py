"""The LightningModule: it loads the model, and hands batches to what the command does with them."""

from __future__ import annotations

from typing import Any

from jsonargparse.typing import OpenUnitInterval, PositiveInt
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from harness.base.processes import Processes
from harness.base.stages import stage
from harness.data import PromptBatch, TextDataModule, WindowBatch
from harness.errors import ConfigError
from harness.evaluation.design import Design, Resampling
from harness.evaluation.fitting import Fitting
from harness.evaluation.measuring import Measuring
from harness.evaluation.recall import Recall
from harness.evaluation.step import StepResult
from harness.evaluation.training import Training
from harness.models import DType, Pretrained, Sharding
from harness.models.sharding import check_strategy
from harness.outliers.variants import VariantConfig, variants_of
from harness.probes.settings import ActivationStatistics
from harness.writing.settings import Generation


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
        activations: What is observed; the command line links it. Null: nothing.
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
        activations: Any = None,
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
        self.generation = generation
        if generation is not None:
            generation.check("model.generation")
            self.source.new_tokens = generation.max_new_tokens
        asked = {name: variant for name, variant in (variants or {}).items() if variant is not None}
        self.variants = variants_of(asked)
        self.control_seed = control_seed
        self.resampling = Resampling(resamples, confidence)
        self.activations: ActivationStatistics = activations or ActivationStatistics(enabled=False)
        self.task: Measuring | Fitting | None = None
        self.processes = Processes()
        self.recall = Recall()

    @classmethod
    def of(cls, module: LightningModule) -> OutlierExperiment:
        """The module of a trainer's callbacks, which Lightning hands on as any module."""
        assert isinstance(module, cls)
        return module

    @property
    def design(self) -> Design:
        """What is measured, once the weights are in place."""
        return self._task.design

    @property
    def _task(self) -> Measuring | Fitting:
        assert self.task is not None  # Lightning calls `setup` first
        return self.task

    @property
    def data(self) -> TextDataModule:
        """The text."""
        data = getattr(self.trainer, "datamodule", None)
        assert isinstance(data, TextDataModule)
        return data

    def join(self) -> Processes:
        """Finds the other processes of the run; each of them has to call this."""
        self.processes = Processes.joined()
        return self.processes

    # -- set-up ------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuses, before any weight is read, what the configuration alone shows to be wrong.

        Args:
            stage: The command: `fit`, `validate`, `test` or `predict`.
        """
        command = str(getattr(stage, "value", stage))
        check_strategy(self.trainer.strategy, self.source.device_map)
        sharding = Sharding.of(self.device_mesh)
        if sharding is not None and command == "fit":
            reason = "fit does not train a divided model; leave it out, or choose ddp"
            raise ConfigError("trainer.strategy", "ModelParallelStrategy", reason)
        self.source.check(sharding)
        if command == "fit":
            self.task = Fitting(self.source, self.activations, self.processes)
        else:
            self.task = Measuring(
                self.source,
                self.variants,
                self.generation,
                self.activations,
                self.control_seed,
                self.resampling,
                command,
                self.recall,
                self.processes,
            )
        self.task.check()

    def configure_model(self) -> None:
        """Loads the weights; Lightning calls this after the data was accepted."""
        if hasattr(self, "model"):
            return
        with stage(f"loading {self.source.title}"):
            model = self.source.load(Sharding.of(self.device_mesh))
        if self.source.device_map is None:
            self.model = model
        else:
            # accelerate has placed it: as a submodule Lightning would move it to one device.
            self.__dict__["model"] = model

    # -- measuring ---------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Finds the outliers, now that the weights are in place and on their device."""
        self._task.begin_evaluation(self.model, self.data)

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def validation_step(
        self, batch: WindowBatch | PromptBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, StepResult]:
        """Scores windows, or continues prompts, by the original and every variant.

        Args:
            batch: Windows or prompts of the plan.
            batch_idx: Position of the batch in this process.
            dataloader_idx: 0 for windows, 1 for prompts.

        Returns:
            All that the batch gave, under the key `result`.
        """
        return {"result": self._task.step(batch)}

    test_step = validation_step
    predict_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Logs the likelihood of the validation split during `fit`."""
        self.log_dict(self._task.figures(), prog_bar=True)

    # -- training ----------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Tries the model out before it is trained."""
        self._fitting.begin(self.model, self.data)

    def training_step(self, batch: WindowBatch, batch_idx: int) -> dict[str, Tensor | StepResult]:
        """Next-token loss of one batch, in nats per token, and what was observed."""
        first = batch_idx % self.trainer.accumulate_grad_batches == 0
        loss, observed = self._fitting.train(batch, self.trainer.global_step, first=first)
        self.log("likelihood/train_nll", loss, prog_bar=True, sync_dist=True)
        return {"loss": loss} | ({} if observed is None else {"result": observed})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up and cosine, as `training` says."""
        optimizer = self.training_settings.optimizer(self.model)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.training_settings.schedule(optimizer, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def weights(self) -> Any:
        """Moments of every parameter during `fit`."""
        return self._fitting.weights()

    @property
    def _fitting(self) -> Fitting:
        assert isinstance(self.task, Fitting)
        return self.task
