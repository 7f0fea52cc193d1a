"""Loaders of planned batches, and the share of them that a trainer is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset

from harness.data.plan import RankBatches, ShuffledBatches
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.data.corpus import Corpus

Loader = DataLoader[Any]

_LIMITS = {
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
}


def loader(rows: Dataset[Any], batches: RankBatches | ShuffledBatches) -> Loader:
    """Makes a loader of batches that rows make of a plan."""
    # The sampler yields whole batches, which the data set turns into tensors: nothing to collate.
    return DataLoader(rows, batch_size=None, sampler=batches, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch


class Shares:
    """Shares of the batches (``limit_val_batches: 0.1``), taken here in Lightning's place.

    Lightning refuses a share of the windows that is less than one batch of the prompts.
    """

    def __init__(self) -> None:
        self._taken: dict[str, float] = {}

    def take(self, trainer: Trainer | None, stage: str, windows: Corpus | None) -> None:
        """Has the trainer ask for everything, where it asks for a share.

        Args:
            trainer: The trainer, if any.
            stage: What it runs.
            windows: What it scores; None where there are prompts alone.

        Raises:
            ConfigError: The share of the windows is less than one batch.
        """
        limit = getattr(trainer, _LIMITS[stage], None) if stage in _LIMITS else None
        if not isinstance(limit, float) or not 0.0 < limit < 1.0:
            return
        if windows is not None and int(len(windows.plan) * limit) < 1:
            reason = f"less than one of {len(windows.plan)} batches; choose a larger share"
            raise ConfigError(f"trainer.{_LIMITS[stage]}", limit, reason)
        self._taken[stage] = limit
        setattr(trainer, _LIMITS[stage], 1.0)

    def give_back(self, trainer: Trainer | None, stage: str) -> None:
        """Leaves the trainer as it was."""
        if stage in self._taken:
            setattr(trainer, _LIMITS[stage], self._taken.pop(stage))

    def of(self, stage: str, plan: list[list[int]]) -> list[list[int]]:
        """The share of a plan: its first batches, of prompts one at least."""
        return plan[: max(1, int(len(plan) * self._taken.get(stage, 1.0)))]
