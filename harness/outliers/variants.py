"""Named interventions on one set of weights, each with its matched random controls."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from jsonargparse.typing import NonNegativeInt
from torch import nn

from harness.base import stages
from harness.base.memory import give_back
from harness.errors import ConfigError
from harness.outliers import (
    Criterion,
    Edit,
    Patch,
    Scope,
    Zero,
    make_patch,
    matched_control,
    patchfile,
)
from harness.outliers.parameters import unique_parameters

ORIGINAL = "original"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!\.)")
"""Names of folders that any file system takes."""

# What a run folder holds beside its variants, and what some systems keep for devices.
_TAKEN = re.compile(
    r"original|checkpoints|figures|journal|patches|status"
    r"|.*\.(csv|html|json|jsonl|md|parquet|txt|yaml)"
    r"|(con|prn|aux|nul|com\d|lpt\d)(\..*)?",
    re.IGNORECASE,
)


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
class Variant:
    """A variant that is ready to be applied.

    Attributes:
        name: Its name in tables, files and TensorBoard.
        patch: The edited entries.
        criterion: How the entries were chosen, as a user would write it.
        edit: What was done to them.
        control_of: Name of the variant that this one is a control for; None for a variant.
        made_by: What made the patch, for its manifest.
        told: The same for a reader.
    """

    name: str
    patch: Patch
    criterion: str
    edit: str
    control_of: str | None = None
    made_by: Mapping[str, object] = field(default_factory=dict)
    told: Told = Told()

    @property
    def leads(self) -> bool:
        """Whether it is a variant, or the first of a variant's controls."""
        return self.control_of is None or self.name == f"{self.control_of}-control-0"


def check_configs(configs: Mapping[str, VariantConfig]) -> None:
    """Refuses names and combinations that cannot be built, before a model is loaded.

    Raises:
        ConfigError: For a name that cannot be a folder, a variant with neither or both of
            criterion and patch, or a patch file that cannot be read.
    """
    seen: set[str] = set()
    for name, config in configs.items():
        key = f"model.variants.{name}"
        _check_name(key, name)
        if name.lower() in seen:
            raise ConfigError(key, name, "is the name of another variant but for its case")
        seen.add(name.lower())  # some file systems do not tell a from A
        if config.criterion is None and config.patch is None:
            reason = "needs a criterion, for example AbsoluteThreshold, or else a patch"
            raise ConfigError(f"{key}.criterion", None, reason)
        if config.criterion is not None and config.patch is not None:
            reason = "stands beside a criterion; give one of the two"
            raise ConfigError(f"{key}.patch", config.patch, reason)
        if config.patch is not None:
            if config.edit is not None or config.scope != Scope():
                reason = "has its own edit and scope; leave those of the variant out"
                raise ConfigError(f"{key}.patch", config.patch, reason)
            patchfile.load(Path(config.patch), f"{key}.patch")


def _check_name(key: str, name: str) -> None:
    if not NAME.fullmatch(name) or not name[0].isalpha() or "-control-" in name:
        reason = (
            "a variant is named by at most 64 letters, digits, dots, dashes and underscores, a "
            "letter first and no dot last, and not like a control"
        )
        raise ConfigError(key, name, reason)
    if _TAKEN.fullmatch(name):
        raise ConfigError(key, name, "is taken: a run's folder has that name for something else")


def check_scopes(configs: Mapping[str, VariantConfig], skeleton: nn.Module) -> None:
    """Refuses scope patterns that match nothing in a model without values.

    Raises:
        ConfigError: Naming the pattern and what the model has.
    """
    for name, config in configs.items():
        _select(name, config, skeleton)


def build_variants(
    model: nn.Module, configs: Mapping[str, VariantConfig], control_seed: int
) -> list[Variant]:
    """Finds the outliers of every variant and draws its controls.

    Args:
        model: The original, with its weights.
        configs: What is asked for, by name.
        control_seed: Seed of the random controls.

    Returns:
        Each variant followed by its controls, in the order of the configuration.

    Raises:
        ConfigError: If a scope matches nothing, or a saved patch is of another model.
    """
    variants: list[Variant] = []
    for name, config in configs.items():
        with stages.stage(f"finding outliers: {name}"):
            variant = _build(name, config, model)
        variants.append(variant)
        for number in range(config.controls if variant.patch.entries else 0):
            control = matched_control(variant.patch, model, control_seed, number, _edit(config))
            variants.append(
                Variant(
                    f"{name}-control-{number}",
                    control,
                    f"random, as many as {name}",
                    variant.edit,
                    name,
                    told=replace(variant.told, which="as many at random"),
                )
            )
        give_back()
    return variants


def patch_path(variant: Variant) -> str | None:
    """Where a run folder holds the variant's patch; None for controls and empty patches."""
    if variant.control_of is not None or not variant.patch.entries:
        return None
    return f"patches/{variant.name}.safetensors"


def entries_by_module_class(patch: Patch, model: nn.Module) -> dict[str, int]:
    """Counts edited entries by the class of the module that owns the parameter."""
    counts: Counter[str] = Counter()
    for tensor in patch.tensors:
        owner = tensor.name.rpartition(".")[0]
        counts[type(model.get_submodule(owner)).__name__] += tensor.entries
    return dict(sorted(counts.items()))


def parameter_count(model: nn.Module) -> int:
    """The number of floating-point weights, tied ones once."""
    return sum(parameter.numel() for parameter in unique_parameters(model).values())


def _edit(config: VariantConfig) -> Edit | None:
    """The edit; None where a saved patch does not hold it as an object."""
    return config.edit or (Zero() if config.patch is None else None)


def _build(name: str, config: VariantConfig, model: nn.Module) -> Variant:
    if config.patch is not None:
        return _saved(name, config.patch, model)
    edit = _edit(config)
    assert config.criterion is not None  # check_configs has seen to it
    assert edit is not None
    parameters = _select(name, config, model)
    patch = make_patch(parameters, config.criterion, edit)
    told = Told(
        verb=edit.verb(),
        which=config.criterion.which(),
        scope=str(config.scope),
        in_scope=sum(parameter.numel() for parameter in parameters.values()),
        nearest=None if patch.entries else config.criterion.nearest(parameters),
    )
    made_by = {
        "variant": name,
        "criterion": str(config.criterion),
        "edit": str(edit),
        "scope": asdict(config.scope),
        "told": {key: value for key, value in asdict(told).items() if key != "nearest"},
    }
    return Variant(name, patch, str(config.criterion), str(edit), made_by=made_by, told=told)


def _saved(name: str, path: str, model: nn.Module) -> Variant:
    key = f"model.variants.{name}.patch"
    patch, manifest = patchfile.load(Path(path), key)
    try:
        patchfile.check(patch, model, key)
    except ConfigError as error:
        raise ConfigError(key, path, f"{error.value}: {error.reason}") from None
    criterion, edit = str(manifest.get("criterion")), str(manifest.get("edit"))
    told = Told.read(manifest.get("told"))
    return Variant(name, patch, criterion, edit, made_by=manifest, told=told)


def _select(name: str, config: VariantConfig, model: nn.Module) -> dict[str, nn.Parameter]:
    try:
        return config.scope.select(model)
    except ConfigError as error:
        raise error.under(f"model.variants.{name}.scope") from None
