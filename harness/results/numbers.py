"""Figures as text."""

from __future__ import annotations

NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""

Bounds = tuple[float, float] | None
"""Both ends of an interval; None where there is none."""


def number(value: float | None) -> str:
    """A figure with four digits, or in powers of ten where it is very small or large."""
    if value is None:
        return NOTHING
    return f"{value:,.4g}" if value == 0 or 1e-2 <= abs(value) < 1e6 else f"{value:.1e}"


def count(value: int | None) -> str:
    """A whole number, with a comma at every thousand."""
    return NOTHING if value is None else f"{value:,}"


def counted(value: int, what: str) -> str:
    """So many of what takes an ``s`` where there is not exactly one."""
    return f"{value:,} {what}{'s' * (value != 1)}"


def signed(value: float | None, bounds: Bounds = None) -> str:
    """A change with its sign, and its interval where there is one."""
    if value is None:
        return NOTHING
    if bounds is None:
        return change(value)
    return f"{change(value)} [{change(bounds[0])}, {change(bounds[1])}]"


def change(value: float) -> str:
    """A change with its sign: four decimals, or powers of ten where it is very large or small."""
    if value == 0 or 1e-4 <= abs(value) < 1e4:
        return f"{value:+.4f}"
    return f"{value:+.1e}"


def nats(value: float) -> str:
    """A change in nats with three digits, for a sentence."""
    return f"{value:+.3g} nats"


def span(lowest: float | None, highest: float | None) -> str:
    """The smallest and the largest of some changes."""
    if lowest is None or highest is None:
        return NOTHING
    return change(lowest) if lowest == highest else f"{change(lowest)} to {change(highest)}"


def text(value: str | None) -> str:
    """What is text already."""
    return NOTHING if value is None else value


def hidden(_: object) -> str:
    """What has no column: a dash, whatever it is."""
    return NOTHING


def with_interval(value: float | None, bounds: Bounds) -> str:
    """A share from 0 to 1 with three decimals, and its interval with two where there is one."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if bounds is None else f"{value:.3f} [{bounds[0]:.2f}, {bounds[1]:.2f}]"


def share(value: float | None) -> str:
    """A share in percent."""
    return NOTHING if value is None else f"{100 * value:.1f}"


def tiny_share(value: float | None) -> str:
    """A share in percent that may be very small."""
    return NOTHING if value is None else f"{100 * value:.2g}"


def p_value(value: float | None) -> str:
    """A p-value, without digits that mean nothing."""
    if value is None:
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
