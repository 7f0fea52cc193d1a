"""The statistics callback: what flows through the original and its variants, at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt
from lightning.pytorch import Callback, LightningModule, Trainer

from harness.data import PromptBatch, WindowBatch
from harness.errors import ConfigError
from harness.outliers import unique_parameters
from harness.outliers.criteria import check_positive
from harness.outliers.variants import ORIGINAL
from harness.probes import Massive, Moments, Observation, Observer, Site, Sites, Thresholds, measure
from harness.probes.sites import decoder_blocks, kind_and_layer
from harness.results import schema
from harness.tracking.logger import run_loggers
from harness.tracking.tables import ACTIVATION_KEYS, WEIGHT_KEYS, MomentsTable
from harness.tracking.tags import activation_tags, layers_shown, weight_tags

if TYPE_CHECKING:
    from harness.evaluation.experiment import OutlierExperiment
    from harness.tracking.run_folder import RunFolder


class ActivationStatistics(Callback):
    """Observes what flows through the model, for the original, each variant and its first control.

    The statistics of every step go to `activations.parquet` and, by layer and kind of module, to
    TensorBoard; in `fit` those of the weights go to `weights.parquet` as well. What the model puts
    out is bitwise what it is without.

    Args:
        enabled: Whether to observe.
        sites: Modules whose output is observed.
        threshold: Magnitude beyond which an activation counts as an outlier.
        sigmas: Standard deviations from the mean beyond which a value counts as an outlier: of the
            activations at a site in one step, and of the weights of a tensor.
        massive_threshold: Magnitude that a massive activation in the residual stream exceeds.
        massive_ratio: How many times the median magnitude of its text it exceeds as well.
        every_n_steps: Observe only each n-th batch of the plan, or step of the training.
    """

    def __init__(
        self,
        enabled: bool = True,
        sites: Sites = Sites(),  # noqa: B008
        threshold: float = 6.0,
        sigmas: float = 6.0,
        massive_threshold: float = 100.0,
        massive_ratio: float = 1000.0,
        every_n_steps: PositiveInt = 1,
    ) -> None:
        for key, value in (
            ("threshold", threshold),
            ("sigmas", sigmas),
            ("massive_threshold", massive_threshold),
            ("massive_ratio", massive_ratio),
        ):
            check_positive(f"activations.{key}", value)
        self.enabled = enabled
        self.sites = sites
        self.thresholds = Thresholds(threshold, sigmas)
        self.massive = Massive(massive_threshold, massive_ratio)
        self.every_n_steps = every_n_steps
        self.totals: dict[str, Observation] = {}
        # Steps of a second call go on after those of the first, as they do in TensorBoard.
        self._offset = self._next = 0
        self._observer: Observer | None = None
        self._layers: set[int] = set()
        self._step: int | None = None
        self._activations: MomentsTable | None = None
        self._weights: MomentsTable | None = None

    @property
    def settings(self) -> schema.ObserverRecord | None:
        """What results are told of how they were observed; None where nothing is."""
        if not self.enabled:
            return None
        return schema.ObserverRecord(
            self.thresholds.absolute,
            self.thresholds.sigmas,
            self.massive.absolute,
            self.massive.ratio,
            self.every_n_steps,
        )

    def attach(self, folder: RunFolder) -> None:
        """Names the folder of the tables; without one only totals and TensorBoard are kept."""
        self._activations = MomentsTable(folder.path / "activations.parquet", ACTIVATION_KEYS)
        self._weights = MomentsTable(folder.path / "weights.parquet", WEIGHT_KEYS)

    # -- when to observe ---------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses patterns that match nothing, before any weight is read."""
        if self.enabled:
            self._find(_experiment(pl_module).source.skeleton())

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to observe the model, now that its weights are in place."""
        self.totals = {}
        self._offset = self._next
        self._step = None
        if self.enabled:
            model = _experiment(pl_module).model
            found = self._find(model)
            self._layers = layers_shown(found)
            self._observer = Observer(model, found, self.thresholds, self.massive)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to observe, unless this is the validation within a training."""
        if not _training(trainer):
            self.on_fit_start(trainer, pl_module)

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Observes the first batch of a step whose turn it is."""
        first = batch_idx % trainer.accumulate_grad_batches == 0
        turn = trainer.global_step % self.every_n_steps == 0
        observed = first and turn and self._observer is not None
        if observed:
            self._step = trainer.global_step
        _experiment(pl_module).observer = self._observer if observed else None

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: WindowBatch | PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Observes a batch whose turn it is; one that is there for other processes has none."""
        turn = batch.number >= 0 and _step(batch) % self.every_n_steps == 0
        observed = turn and not _training(trainer)
        _experiment(pl_module).observer = self._observer if observed else None

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start

    # -- what is kept ------------------------------------------------------------------------

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Writes the statistics of a step, and those of the weights after it."""
        experiment, step = _experiment(pl_module), self._step
        if step is None:
            return
        if experiment.observer is not None:
            self._keep(trainer, experiment, step)
        if trainer.global_step == step:
            return  # gradients of further batches are to be added
        self._step = None
        weights = self._of_weights(experiment)
        for site, moments in weights.items():
            if self._weights is not None:
                self._weights.add((step, site.name, site.kind, site.layer), moments)
        for logger in run_loggers(trainer):
            logger.scalars(ORIGINAL, weight_tags(weights), step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: WindowBatch | PromptBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the statistics of a step, and adds those of what is read to the run's."""
        experiment = _experiment(pl_module)
        if experiment.observer is None:
            return
        self._keep(trainer, experiment, _step(batch))
        # Prompts count for a run that reads nothing else.
        counts = isinstance(batch, WindowBatch) or trainer.state.fn == "predict"
        for variant, observation in experiment.observed.items():
            total = self.totals.setdefault(variant, Observation())
            total.sites |= observation.sites
            total.unplaced |= observation.unplaced
            for where, moments in observation.moments[variant].items() if counts else ():
                total.add(variant, where, moments)

    on_test_batch_end = on_validation_batch_end
    on_predict_batch_end = on_validation_batch_end

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Completes the files."""
        for table in (self._activations, self._weights):
            if table is not None:
                table.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Completes the files of an interrupted run; a refused one leaves none."""
        if not isinstance(exception, ConfigError):
            self.teardown(trainer, pl_module, "")

    def _keep(self, trainer: Trainer, experiment: OutlierExperiment, step: int) -> None:
        self._next = max(self._next, self._offset + step + 1)
        for variant, observation in experiment.observed.items():
            seen = observation.moments[variant]
            for (site, phase, part), moments in seen.items():
                if self._activations is not None:
                    keys = (
                        self._offset + step,
                        variant,
                        site.name,
                        site.kind,
                        site.layer,
                        phase,
                        part,
                    )
                    self._activations.add(keys, moments)
            for logger in run_loggers(trainer):
                logger.scalars(variant, activation_tags(seen, self._layers), step)

    def _of_weights(self, experiment: OutlierExperiment) -> dict[Site, Moments]:
        stack = decoder_blocks(experiment.model)
        return {
            Site(name, *kind_and_layer(name, stack)): measure(
                weight.reshape(1, -1) if weight.ndim < 2 else weight.flatten(1), self.thresholds
            )
            for name, weight in unique_parameters(experiment.model).items()
        }

    def _find(self, model: Any) -> list[Site]:
        try:
            return self.sites.find(model)
        except ConfigError as error:
            raise error.under("activations.sites") from None


def _experiment(pl_module: LightningModule) -> OutlierExperiment:
    return pl_module  # type: ignore[return-value]


def _training(trainer: Trainer) -> bool:
    return trainer.state.fn == "fit"


def _step(batch: WindowBatch | PromptBatch) -> int:
    """The global number of a batch: prompts come after all windows."""
    return batch.step if isinstance(batch, PromptBatch) else batch.number
