"""How models get through the weights that they share: who of them goes together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.outliers.intervention import Intervention

Given = TypeVar("Given")


class Group(Protocol):
    """Models whose rows are in one batch."""

    @property
    def names(self) -> Sequence[str]:
        """The models, in the order of their rows; each has as many."""

    def applied(self, model: PreTrainedModel, rows: int) -> AbstractContextManager[None]:
        """Lets a model be all of them for the length of a `with` block, and undoes it bit for bit.

        Args:
            model: The original.
            rows: Rows of all of them.
        """


class Executor(Protocol):
    """Decides which models go together; what comes out does not depend on it, but for rounding."""

    def run(
        self,
        model: PreTrainedModel,
        interventions: Mapping[str, Intervention | None],
        work: Callable[[Group], Given],
    ) -> Iterator[tuple[Group, Given]]:
        """Does some work for groups of models until it is done for each.

        Args:
            model: The original.
            interventions: What is done to it, by the models' names; None for the original.
            work: Runs the models of a group; what it gives is yielded beside the group.
        """


@dataclass(frozen=True)
class Alone:
    """One model by itself.

    Args:
        name: Its name.
        intervention: What is done to the original; None for that itself.
    """

    name: str
    intervention: Intervention | None

    @property
    def names(self) -> tuple[str]:
        """Its name."""
        return (self.name,)

    def applied(self, model: PreTrainedModel, rows: int) -> AbstractContextManager[None]:
        """Does to the model what is done to it."""
        return self.intervention.applied(model) if self.intervention else nullcontext()


class OneByOne:
    """Lets models go one after the other."""

    def run(
        self,
        model: PreTrainedModel,
        interventions: Mapping[str, Intervention | None],
        work: Callable[[Group], Given],
    ) -> Iterator[tuple[Group, Given]]:
        """Does the work for each model by itself."""
        for name, intervention in interventions.items():
            alone = Alone(name, intervention)
            yield alone, work(alone)


ONE_BY_ONE = OneByOne()
