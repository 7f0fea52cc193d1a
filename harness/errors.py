"""The one exception for input that is refused."""

from __future__ import annotations


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
