"""What is observed of activations, as the configuration describes it."""

from __future__ import annotations

from jsonargparse.typing import PositiveInt
from torch import nn

from harness.errors import ConfigError, check_positive
from harness.probes.massive import Massive
from harness.probes.moments import Thresholds
from harness.probes.observer import Observer
from harness.probes.sites import Site, Sites
from harness.results.schema import ObserverRecord


class ActivationStatistics:
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

    @property
    def record(self) -> ObserverRecord | None:
        """What results are told of how was observed; None where nothing is."""
        if not self.enabled:
            return None
        return ObserverRecord(
            self.thresholds.absolute,
            self.thresholds.sigmas,
            self.massive.absolute,
            self.massive.ratio,
            self.every_n_steps,
        )

    def find(self, model: nn.Module) -> list[Site]:
        """Finds the sites; none where nothing is observed.

        Args:
            model: The model; its parameters may be on the meta device.

        Raises:
            ConfigError: For a pattern that matches nothing.
        """
        if not self.enabled:
            return []
        try:
            return self.sites.find(model)
        except ConfigError as error:
            raise error.under("activations.sites") from None

    def observer(self, model: nn.Module) -> Observer | None:
        """What observes a model; None where nothing is observed.

        Raises:
            ConfigError: For a pattern that matches nothing.
        """
        if not self.enabled:
            return None
        return Observer(model, self.find(model), self.thresholds, self.massive)
