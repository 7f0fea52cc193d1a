"""Sites: the modules whose output is observed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from harness.errors import ConfigError

RESIDUAL = "residual"
"""Kind of a decoder block, whose output is the residual stream."""

TYPES = ("Linear", "Conv1D", "*LayerNorm", "*RMSNorm", "*Experts", "*SparseMoeBlock", "*MoE")
"""Classes that are observed unless told otherwise, beside the decoder blocks."""


@dataclass(frozen=True)
class Site:
    """A module whose output is observed.

    Attributes:
        name: Its name in the model.
        kind: What it is, in whichever layer: its name without numbers and without what leads to
            the layers, such as ``mlp.down_proj``; ``residual`` for a decoder block.
        layer: Number of the decoder block that it lies in, from 0; None outside of them.
    """

    name: str
    kind: str
    layer: int | None


@dataclass(frozen=True)
class Sites:
    """Which modules are observed, by the patterns that their classes and names match.

    Decoder blocks, whose output is the residual stream, are observed whatever their class; the head
    never is, since what it gives are logits.

    Args:
        types: Patterns of class names; a module matches by its own class or one it derives from.
        include: Patterns of module names that may be observed, for example `*.mlp.down_proj`.
        exclude: Patterns of module names that are not observed; they win over include.
    """

    types: list[str] = field(default_factory=lambda: list(TYPES))
    include: list[str] = field(default_factory=lambda: ["*"])
    exclude: list[str] = field(default_factory=list)

    def find(self, model: nn.Module) -> list[Site]:
        """Finds the modules.

        Args:
            model: The model; its parameters may be on the meta device.

        Returns:
            Sites in the model's order.

        Raises:
            ConfigError: If a pattern matches nothing (patterns of the default types may), or no
                module is left.
        """
        modules = {name: module for name, module in model.named_modules() if name}
        classes = {name: [cls.__name__ for cls in type(m).__mro__] for name, m in modules.items()}
        everything = {cls for names in classes.values() for cls in names}
        own = sorted({names[0] for names in classes.values()})
        for pattern in set(self.types) - set(TYPES):
            _check_matches("types", pattern, everything, own)
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            for pattern in patterns:
                _check_matches(key, pattern, modules, list(modules))
        stack = decoder_blocks(model)
        head = getattr(model, "get_output_embeddings", lambda: None)()
        everywhere = (Site(name, *kind_and_layer(name, stack)) for name in modules)
        sites = [
            site
            for site in everywhere
            if modules[site.name] is not head
            and (site.kind == RESIDUAL or any(_matches(self.types, c) for c in classes[site.name]))
            and _matches(self.include, site.name)
            and not _matches(self.exclude, site.name)
        ]
        if not sites:
            key, value = ("exclude", self.exclude) if self.exclude else ("include", self.include)
            reason = "leaves no module to observe; the head never is, since it gives logits"
            raise ConfigError(key, value, reason)
        return sites


def decoder_blocks(model: nn.Module) -> str:
    """Name of the list of decoder blocks: the longest list of modules; empty if there is none.

    Lists inside other lists do not count: a block may have more experts than there are blocks. Of
    lists inside a part that is called a language or text model only those count, so that the
    longer vision tower of a multimodal model is not taken for it.
    """
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():  # outer before inner
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{k}.") for k in lists):
            lists[name] = module
    text = [name for name in lists if "language_model" in name or "text_model" in name]
    return max(text or lists, key=lambda name: len(lists[name]), default="")


def kind_and_layer(name: str, stack: str) -> tuple[str, int | None]:
    """Kind and layer of a module or parameter; see `Site`.

    Args:
        name: Its name.
        stack: Name of the list of decoder blocks.
    """
    inside = name.removeprefix(f"{stack}.") if stack else name
    number, _, rest = inside.partition(".")
    if inside == name or not number.isdigit():
        return _kind(name), None
    return (_kind(rest) if rest else RESIDUAL), int(number)


def _kind(name: str) -> str:
    return ".".join(part for part in name.split(".") if not part.isdigit())


def _matches(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_matches(key: str, pattern: str, names: Iterable[str], shown: Sequence[str]) -> None:
    if not any(fnmatchcase(name, pattern) for name in names):
        examples = ", ".join(get_close_matches(pattern, shown, n=3, cutoff=0.0)) or "none"
        what = "class of module" if key == "types" else "module"
        raise ConfigError(key, pattern, f"matches no {what}; the model has e.g. {examples}")
