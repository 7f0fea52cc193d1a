"""The one exception for input that is refused."""

from __future__ import annotations

import math
from numbers import Real


class ConfigError(Exception):
    """Input that is refused, told in one line.

    The command line prints the line on stderr and exits with status 2; no traceback is shown,
    so the line has to say everything: which key, which value, what would be accepted.

    Args:
        key: The configuration key as a user types it, for example ``data.stride``.
        value: The value that was given.
        reason: What is wrong with it and what would be accepted.
    """

    def __init__(self, key: str, value: object, reason: str) -> None:
        super().__init__(f"{key}={value!r}: {reason}")
        self.key = key
        self.value = value
        self.reason = reason

    def under(self, prefix: str) -> ConfigError:
        """Returns the same error with its key placed below ``prefix``."""
        return ConfigError(f"{prefix}.{self.key}", self.value, self.reason)


def is_number(value: object) -> bool:
    """Whether a value is a finite real number; a bool is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_positive(key: str, value: float) -> None:
    """Refuses an argument that is not a positive, finite number.

    Raises:
        ConfigError: Naming the argument.
    """
    if not is_number(value) or value <= 0:
        raise ConfigError(key, value, "must be a positive, finite number")
