"""Interventions: what can be done to a model, whatever it is, and is undone again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from torch import nn

from harness.outliers.control import Shared
from harness.outliers.tensor_patch import TensorPatch
from harness.results.schema import EditRecord


class Intervention(ABC):
    """What is done to the model under a variant.

    Scoring, generation, controls and reports deal with interventions and never ask which kind.
    """

    @property
    @abstractmethod
    def is_identity(self) -> bool:
        """Whether it does nothing, so that the model under it is the original."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What is the same for interventions that do the same to a model, and for no others."""

    @abstractmethod
    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Does it to a model for the length of a `with` block, and undoes it bit for bit."""

    @abstractmethod
    def within(self, names: Collection[str]) -> Intervention:
        """The part of it that touches the parameters of these names.

        What touches no parameters, as an edit of activations, is a part of itself: it is then done
        while the body runs and while the tail does.
        """

    @abstractmethod
    def control(self, number: int, model: nn.Module) -> Intervention:
        """Draws a random intervention of the same size in the same places.

        Args:
            number: Which of the controls, from 0: the same number gives the same control.
            model: The model as it is without interventions.
        """

    @abstractmethod
    def describe(self, model: nn.Module) -> EditRecord:
        """What it does, as results tell it.

        Args:
            model: The model as it is without interventions.
        """

    @abstractmethod
    def save(self, path: Path, model: Mapping[str, object]) -> None:
        """Writes it to a file.

        Args:
            path: The file, in a folder that exists.
            model: What tells the model that it is for from others.
        """

    @property
    def entries_set(self) -> Sequence[TensorPatch] | None:
        """The entries of parameters that it sets, if that is all it does; None if it is not.

        What says so can go through the model as rows of a batch that other models share.
        """
        return None

    @property
    def untouched_by_controls(self) -> int:
        """How many values its controls leave as they are, since they cannot do as it does there."""
        return 0

    def shared_with_controls(self) -> Sequence[Shared]:
        """What a control is expected to do as well; nothing where no overlap can arise."""
        return ()
