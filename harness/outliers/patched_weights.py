"""The intervention that edits a few weights: a sparse patch, and what made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from torch import nn

from harness.outliers import patchfile
from harness.outliers.control import matched_control, shared_by_chance
from harness.outliers.edits import Edit
from harness.outliers.intervention import Intervention, Shared
from harness.outliers.parameters import parameter_count
from harness.outliers.patch import Patch
from harness.results.schema import EditRecord


@dataclass(frozen=True)
class Told:
    """What is done to which weights, in words; None where a saved patch does not tell.

    Attributes:
        verb: What is done: `zeroes`.
        which: To which weights: `those with |w| > 5`.
        scope: Where they were looked for: `matrices`.
        in_scope: Number of weights there.
        nearest: Where none was found, how near it came.
    """

    verb: str | None = None
    which: str | None = None
    scope: str | None = None
    in_scope: int | None = None
    nearest: str | None = None

    @classmethod
    def read(cls, said: object) -> Told:
        """What a manifest says, as far as it is fit to be shown."""
        values = said if isinstance(said, Mapping) else {}
        words = {key: values.get(key) for key in ("verb", "which", "scope")}
        size = values.get("in_scope")
        return cls(
            **{key: word for key, word in words.items() if _is_shown(word)},
            in_scope=size if type(size) is int and size > 0 else None,
        )


def _is_shown(word: object) -> bool:
    """Whether it is one line of text, without what a terminal would take for a command."""
    return isinstance(word, str) and word.isprintable()


@dataclass(frozen=True)
class PatchedWeights(Intervention):
    """A sparse patch as an intervention.

    Attributes:
        patch: The edited entries.
        variant: Name of the variant that it is for.
        criterion: How the entries were chosen, as a user would write it.
        edit: What was done to them, likewise.
        told: The same for a reader.
        made_by: The same for the manifest of a saved patch.
        editing: The edit itself, which says what a control makes of its entries; None where a
            saved patch does not hold it.
        seed: Seed of the controls.
    """

    patch: Patch
    variant: str = "variant"
    criterion: str = "unknown"
    edit: str = "unknown"
    told: Told = Told()
    made_by: Mapping[str, object] = field(default_factory=dict)
    editing: Edit | None = None
    seed: int = 0

    @property
    def is_identity(self) -> bool:
        """Whether no entry was selected."""
        return not self.patch.entries

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Edits the model's own weights for the length of a `with` block."""
        return self.patch.applied(model)

    def within(self, names: Collection[str]) -> PatchedWeights:
        """The entries of the parameters of these names."""
        return replace(self, patch=self.patch.only(names))

    def control(self, number: int, model: nn.Module) -> PatchedWeights:
        """As many entries of the same tensors, chosen at random."""
        return replace(
            self,
            patch=matched_control(self.patch, model, self.seed, number, self.editing),
            criterion=f"random, as many as {self.variant}",
            told=replace(self.told, which="as many at random"),
        )

    def describe(self, model: nn.Module) -> EditRecord:
        """How many weights were edited, which and how."""
        entries, told = self.patch.entries, self.told
        return EditRecord(
            criterion=self.criterion,
            edit=self.edit,
            entries=entries,
            fraction=entries / parameter_count(model),
            by_module_class=_by_module_class(self.patch, model),
            patch=None,
            is_original=not entries,
            **asdict(told),
            share_of_scope=entries / told.in_scope if told.in_scope else None,
        )

    def save(self, path: Path, model: Mapping[str, object]) -> None:
        """Writes the patch with its manifest."""
        patchfile.save(self.patch, path, {"model": model, **self.made_by})

    def shared_with_controls(self) -> Sequence[Shared]:
        """How many entries of each tensor a control is expected to edit too."""
        return [
            Shared(tensor.name, tensor.entries, shared_by_chance(tensor))
            for tensor in self.patch.tensors
        ]


def _by_module_class(patch: Patch, model: nn.Module) -> dict[str, int]:
    """Edited entries by the class of the module that owns the parameter."""
    counts: Counter[str] = Counter()
    for tensor in patch.tensors:
        owner = tensor.name.rpartition(".")[0]
        counts[type(model.get_submodule(owner)).__name__] += tensor.entries
    return dict(sorted(counts.items()))
