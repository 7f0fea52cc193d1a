"""Values of the data module's keys that are refused."""

from __future__ import annotations

from typing import Any

from harness.data.windows import Kind
from harness.errors import ConfigError


def one_of(key: str, value: Any, accepted: tuple[str, ...]) -> None:
    """Refuses a value that is none of those accepted."""
    if value not in accepted:
        raise ConfigError(f"data.{key}", value, f"choose one of {', '.join(accepted)}")


def at_least(key: str, value: Any, least: int) -> None:
    """Refuses what is no whole number from `least` on; None is for a default to be found later."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"data.{key}", value, f"give a whole number from {least} on")


def check_stride(windows: Kind, stride: int | None, max_length: int) -> None:
    """Refuses a stride that would lose tokens, or that the kind of window does not have."""
    if stride is None:
        return
    if stride > max_length:
        reason = f"above data.max_length={max_length}; tokens between windows would be lost"
        raise ConfigError("data.stride", stride, reason)
    if windows == "chunks" and stride != max_length:
        reason = "chunks do not overlap; leave it out, or choose data.windows=strided"
        raise ConfigError("data.stride", stride, reason)
