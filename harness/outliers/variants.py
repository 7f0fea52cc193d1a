"""Variants as the configuration describes them, and the interventions that they stand for."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from jsonargparse.typing import NonNegativeInt
from torch import nn

from harness.base.shards import Wholes
from harness.errors import ConfigError
from harness.outliers import patchfile
from harness.outliers.criteria import Criterion
from harness.outliers.edits import Edit, Zero
from harness.outliers.intervention import Intervention
from harness.outliers.patch import Patch, Told, make_patch
from harness.outliers.scope import Scope

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!\.)")
"""Names of folders that any file system takes."""

# What a run folder holds beside its variants, and what some systems keep for devices.
_TAKEN = re.compile(
    r"original|checkpoints|figures|journal|patches|status"
    r"|.*\.(csv|html|json|jsonl|md|parquet|txt|yaml)"
    r"|(con|prn|aux|nul|com\d|lpt\d)(\..*)?",
    re.IGNORECASE,
)


class Variant(ABC):
    """Where the intervention of a variant comes from.

    Attributes:
        controls: How many random controls are drawn beside it.
    """

    controls: int

    @abstractmethod
    def check(self, key: str, skeleton: nn.Module) -> None:
        """Refuses what does not go with a model, before its weights are read.

        Args:
            key: Configuration key of the variant.
            skeleton: The model without values.

        Raises:
            ConfigError: Naming the key and what the model has.
        """

    @abstractmethod
    def find(self, name: str, model: nn.Module, seed: int = 0) -> Intervention:
        """Finds what is done to a model.

        Args:
            name: Name of the variant.
            model: The model, with its own weights.
            seed: Seed of the controls that are drawn beside it.

        Raises:
            ConfigError: If it is for another model.
        """


@dataclass(frozen=True)
class OutlierEdit(Variant):
    """An edit of the weights that a criterion selects.

    Args:
        criterion: Which entries are outliers.
        edit: What becomes of them.
        scope: Which parameters the criterion may touch.
        controls: How many random controls are drawn beside it.
    """

    criterion: Criterion
    edit: Edit = Zero()  # noqa: RUF009  (frozen)
    scope: Scope = field(default_factory=Scope)
    controls: int = 0

    def check(self, key: str, skeleton: nn.Module) -> None:
        """Refuses patterns that match nothing."""
        try:
            self.scope.select(skeleton)
        except ConfigError as error:
            raise error.under(f"{key}.scope") from None

    def find(self, name: str, model: nn.Module, seed: int = 0) -> Patch:
        """Finds the outliers, and what becomes of them."""
        parameters = self.scope.select(model)
        patch = make_patch(parameters, self.criterion, self.edit)
        told = Told(
            verb=self.edit.verb(),
            which=self.criterion.which(),
            scope=str(self.scope),
            in_scope=sum(parameter.numel() for parameter in parameters.values()),
            nearest=None if patch.entries else self.criterion.nearest(Wholes(parameters)),
        )
        made_by = {
            "variant": name,
            "criterion": patch.criterion,
            "edit": patch.edit,
            "scope": asdict(self.scope),
            "told": {key: value for key, value in asdict(told).items() if key != "nearest"},
        }
        return replace(patch, variant=name, told=told, made_by=made_by, seed=seed)


@dataclass(frozen=True)
class SavedPatch(Variant):
    """A patch that a run has saved.

    Args:
        path: Its file.
        controls: How many random controls are drawn beside it.
    """

    path: str
    controls: int = 0

    def check(self, key: str, skeleton: nn.Module) -> None:
        """Refuses a file that cannot be read; whether it is for the model, weights tell."""
        patchfile.load(Path(self.path), f"{key}.patch")

    def find(self, name: str, model: nn.Module, seed: int = 0) -> Patch:
        """Reads it, and makes sure that it is for the weights of this model."""
        key = f"model.variants.{name}.patch"
        tensors, manifest = patchfile.load(Path(self.path), key)
        if reason := patchfile.misfit(tensors, model):
            raise ConfigError(key, self.path, reason)
        criterion, edit = str(manifest.get("criterion")), str(manifest.get("edit"))
        told = Told.read(manifest.get("told"))
        return Patch(tensors, name, criterion, edit, told, made_by=manifest, seed=seed)


@dataclass
class VariantConfig:
    """One variant as the configuration describes it.

    Args:
        criterion: Which entries are outliers: AbsoluteThreshold, SigmaThreshold, TopFraction, or
            a class of your own.
        edit: What becomes of them: Zero (the default), Epsilon, Clip, or a class of your own.
        scope: Which parameters the criterion may touch.
        controls: How many random controls are drawn beside the variant, each of as many entries
            in the same tensors. A p-value against controls needs at least 19.
        patch: File of a saved patch, in place of criterion, edit and scope.
    """

    criterion: Criterion | None = None
    edit: Edit | None = None
    scope: Scope = field(default_factory=Scope)
    controls: NonNegativeInt = 0
    patch: str | None = None

    def variant(self, key: str) -> Variant:
        """The kind of variant that is described.

        Args:
            key: Its configuration key.

        Raises:
            ConfigError: For neither or both of criterion and patch.
        """
        if self.patch is None:
            if self.criterion is None:
                reason = "needs a criterion, for example AbsoluteThreshold, or else a patch"
                raise ConfigError(f"{key}.criterion", None, reason)
            return OutlierEdit(self.criterion, self.edit or Zero(), self.scope, self.controls)
        if self.criterion is not None:
            reason = "stands beside a criterion; give one of the two"
            raise ConfigError(f"{key}.patch", self.patch, reason)
        if self.edit is not None or self.scope != Scope():
            reason = "has its own edit and scope; leave those of the variant out"
            raise ConfigError(f"{key}.patch", self.patch, reason)
        return SavedPatch(self.patch, self.controls)


def variants_of(configs: Mapping[str, VariantConfig]) -> dict[str, Variant]:
    """The variants of a configuration.

    Raises:
        ConfigError: For a name that cannot be a folder, or as `VariantConfig.variant` does.
    """
    seen: set[str] = set()
    variants = {}
    for name, config in configs.items():
        key = f"model.variants.{name}"
        _check_name(key, name)
        if name.lower() in seen:
            raise ConfigError(key, name, "is the name of another variant but for its case")
        seen.add(name.lower())  # some file systems do not tell a from A
        variants[name] = config.variant(key)
    return variants


def _check_name(key: str, name: str) -> None:
    if not NAME.fullmatch(name) or not name[0].isalpha() or "-control-" in name:
        reason = (
            "a variant is named by at most 64 letters, digits, dots, dashes and underscores, a "
            "letter first and no dot last, and not like a control"
        )
        raise ConfigError(key, name, reason)
    if _TAKEN.fullmatch(name):
        raise ConfigError(key, name, "is taken: a run's folder has that name for something else")
