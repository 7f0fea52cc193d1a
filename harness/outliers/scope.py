"""Which parameters a criterion may touch."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from harness.errors import ConfigError
from harness.outliers.parameters import tied_names


@dataclass(frozen=True)
class Scope:
    """Parameters by the patterns that their names match, as a shell matches file names.

    `*` stands for any characters, dots included. A tied parameter matches by any of its names and
    is taken once.

    Args:
        include: Patterns of parameters that may be edited, for example `*.mlp.down_proj.weight`.
        exclude: Patterns of parameters that stay as they are; they win over include.
        matrices_only: Leave out parameters of fewer than two dimensions: norms and biases.
    """

    include: list[str] = field(default_factory=lambda: ["*"])
    exclude: list[str] = field(default_factory=list)
    matrices_only: bool = False

    def select(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Finds the parameters.

        Args:
            model: The model; its parameters may be on the meta device.

        Returns:
            Floating-point parameters by their first name, in the model's order.

        Raises:
            ConfigError: If a pattern matches no parameter, or no parameter is left.
        """
        names = tied_names(model)
        everything = [alias for aliases in names.values() for alias in aliases]
        for key, patterns in (("include", self.include), ("exclude", self.exclude)):
            for pattern in patterns:
                if not _match([pattern], everything):
                    near = ", ".join(get_close_matches(pattern, everything, n=3, cutoff=0.0))
                    reason = f"matches no parameter; the model has e.g. {near or 'none'}"
                    raise ConfigError(key, pattern, reason)
        chosen = {
            first: model.get_parameter(first)
            for first, aliases in names.items()
            if _match(self.include, aliases) and not _match(self.exclude, aliases)
        }
        if not chosen:
            key, value = ("exclude", self.exclude) if self.include else ("include", self.include)
            raise ConfigError(key, value, "leaves no parameter that may be edited")
        if not self.matrices_only:
            return chosen
        matrices = {name: weight for name, weight in chosen.items() if weight.ndim >= 2}
        if not matrices:
            example = next(iter(chosen))
            reason = f"leaves no parameter; in scope are vectors, e.g. {example}"
            raise ConfigError("matrices_only", True, reason)
        return matrices

    def __str__(self) -> str:
        """In words: `all weights`, `matrices`, `matrices named *.mlp.* but not *.up_proj.*`."""
        kind = "matrices" if self.matrices_only else "parameters"
        if "*" not in self.include:
            words = f"{kind} named {', '.join(self.include)}"
        else:
            words = kind if self.matrices_only else "all weights"
        return f"{words} but not {', '.join(self.exclude)}" if self.exclude else words


def _match(patterns: list[str], names: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
