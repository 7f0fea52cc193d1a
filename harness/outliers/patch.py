"""The sparse, reversible edit of a model, and what made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.base import shards
from harness.outliers import patchfile
from harness.outliers.control import Shared, control_of
from harness.outliers.criteria import Criterion
from harness.outliers.edits import Edit, scaled_alike
from harness.outliers.entries import bits, memory
from harness.outliers.finding import copied, select
from harness.outliers.intervention import Intervention
from harness.outliers.parameters import parameter_count
from harness.outliers.spread import remembered
from harness.outliers.tensor_patch import TensorPatch
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
        """What a manifest says, as far as it is fit to be shown.

        Words are if they are one line, without what a terminal would take for a command.
        """
        values = said if isinstance(said, Mapping) else {}
        words = {key: values.get(key) for key in ("verb", "which", "scope")}
        size = values.get("in_scope")
        return cls(
            **{
                k: word for k, word in words.items() if isinstance(word, str) and word.isprintable()
            },
            in_scope=size if type(size) is int and size > 0 else None,
        )


@dataclass(frozen=True, eq=False)
class Patch(Intervention):
    """Edits of a model's weights: kilobytes that can be put on and taken off again.

    An entry counts as edited because it was selected, also where its new value is its old one.

    Attributes:
        tensors: The edited parameters, each once.
        variant: Name of the variant that it is for.
        criterion: How the entries were chosen, as a user would write it.
        edit: What was done to them, likewise.
        told: The same for a reader.
        made_by: The same for the manifest of a saved patch.
        editing: The edit itself, which says what a control makes of its entries; None where a
            saved patch does not hold it.
        seed: Seed of the controls.

    Raises:
        ValueError: If a name occurs twice.
    """

    tensors: tuple[TensorPatch, ...] = ()
    variant: str = "variant"
    criterion: str = "unknown"
    edit: str = "unknown"
    told: Told = Told()
    made_by: Mapping[str, object] = field(default_factory=dict)
    editing: Edit | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses two sets of edits of one parameter."""
        if len(set(self.names)) < len(self.tensors):
            raise ValueError("a patch edits each parameter once")

    @property
    def entries(self) -> int:
        """How many entries are edited in all."""
        return sum(tensor.entries for tensor in self.tensors)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the edited parameters."""
        return tuple(tensor.name for tensor in self.tensors)

    @property
    def is_identity(self) -> bool:
        """Whether no entry is edited."""
        return not self.entries

    @property
    def key(self) -> str:
        """A hash of the positions and of the new values."""
        digest = blake2b(digest_size=16)
        for tensor in self.tensors:
            digest.update(f"{tensor.name} {list(tensor.shape)} {tensor.new.dtype} ".encode())
            digest.update(tensor.index.numpy().tobytes())
            digest.update(bits(tensor.new.cpu()).numpy().tobytes())
        return digest.hexdigest()

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Edits the model's own weights for the length of a `with` block.

        Whatever the edited entries held when the block began they hold again after it, bit for
        bit, also if it ends by an error. Blocks may be nested.

        Args:
            model: The model; its weights stay where they are and are never copied.

        Raises:
            ConfigError: If a parameter is missing or of another shape or data type; nothing is
                changed then.
        """
        parameters = [tensor.parameter_of(model) for tensor in self.tensors]
        undo: list[tuple[Tensor, Tensor, Tensor]] = []
        try:
            for tensor, parameter in zip(self.tensors, parameters, strict=True):
                where, new = tensor.placed(parameter)
                if len(where):
                    values = memory(shards.local(parameter))
                    undo.append((parameter, where, values.index_select(0, where)))
                    values.index_copy_(0, where, new)
            yield
        finally:
            _restore(undo)
            shards.let_go(model, self.names)

    def within(self, names: Collection[str]) -> Patch:
        """The entries of the parameters of these names."""
        return replace(self, tensors=tuple(t for t in self.tensors if t.name in names))

    def control(self, number: int, model: nn.Module) -> Patch:
        """As many entries of the same tensors, chosen at random: for a number always the same."""
        return replace(
            matched_control(self, model, self.seed, number, self.editing),
            criterion=f"random, as many as {self.variant}",
            told=replace(self.told, which="as many at random"),
        )

    def describe(self, model: nn.Module) -> EditRecord:
        """How many weights are edited, which and how."""
        by_module_class: Counter[str] = Counter()
        for tensor in self.tensors:
            owner = model.get_submodule(tensor.name.rpartition(".")[0])
            by_module_class[shards.class_of(owner).__name__] += tensor.entries
        in_scope = self.told.in_scope
        return EditRecord(
            criterion=self.criterion,
            edit=self.edit,
            entries=self.entries,
            fraction=self.entries / parameter_count(model),
            by_module_class=dict(sorted(by_module_class.items())),
            patch=None,
            is_original=self.is_identity,
            **asdict(self.told),
            share_of_scope=self.entries / in_scope if in_scope else None,
        )

    def save(self, path: Path, model: Mapping[str, object]) -> None:
        """Writes the patch with its manifest."""
        patchfile.save(self.tensors, path, {"model": model, **self.made_by})

    @property
    def entries_set(self) -> tuple[TensorPatch, ...]:
        """Its tensors: a patch does nothing else."""
        return self.tensors

    @property
    def untouched_by_controls(self) -> int:
        """Entries whose ratio of new to old is not finite, where controls are scaled by it."""
        if self.editing is not None and type(self.editing).control is not Edit.control:
            return 0
        ratios = (tensor.new.double() / tensor.old.double() for tensor in self.tensors)
        return sum(int((~ratio.isfinite()).sum()) for ratio in ratios)

    def shared_with_controls(self) -> Sequence[Shared]:
        """How many entries of each tensor a control is expected to edit too."""
        return [Shared.by_chance(tensor) for tensor in self.tensors]


def make_patch(parameters: Mapping[str, nn.Parameter], criterion: Criterion, edit: Edit) -> Patch:
    """Finds outliers and what becomes of them.

    Args:
        parameters: Where to look, by name, tied parameters once: what `Scope.select` gives.
        criterion: Which entries are outliers.
        edit: What becomes of them.

    Returns:
        The patch, on the CPU; parameters without outliers are not in it.

    Raises:
        ConfigError: If a parameter has no values here, because it was offloaded.
        TypeError: If a criterion or edit of your own gives tensors of another shape or data type
            than it should.
    """
    with torch.no_grad(), remembered():
        tensors = tuple(copied(select(n, p, criterion, edit) for n, p in parameters.items()))
    return Patch(tensors, criterion=str(criterion), edit=str(edit), editing=edit)


def matched_control(
    patch: Patch, model: nn.Module, seed: int, number: int, edit: Edit | None = None
) -> Patch:
    """Draws a random patch to hold another one against.

    In every tensor it edits as many entries, chosen uniformly from all of them. The choice depends
    on seed, number and the tensor's name and size alone: not on machine, device, threads, or the
    number of processes.

    Args:
        patch: What the control is for.
        model: The model, with its own weights.
        seed: Seed of all controls.
        number: Which of the controls, from 0.
        edit: What made the patch; its `control` decides what becomes of the drawn entries. None,
            for a patch whose edit is not known: each is scaled by the ratio of new to old of the
            entry it stands for.

    Returns:
        A patch of the same tensors and the same number of entries in each.

    Raises:
        ConfigError: If the patch is not for this model.
    """
    make = edit.control if edit is not None else scaled_alike
    return replace(patch, tensors=control_of(patch.tensors, model, make, seed, number))


def _restore(undo: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Writes saved entries back, the last first; an interruption waits until all are back."""
    try:
        while undo:
            parameter, where, old = undo[-1]
            # Viewed afresh: a view made in inference mode could not be written outside it.
            memory(shards.local(parameter)).index_copy_(0, where, old)
            undo.pop()
    except KeyboardInterrupt:
        _restore(undo)
        raise
