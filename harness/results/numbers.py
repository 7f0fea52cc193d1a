"""Figures as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""

Bounds = tuple[float, float] | None
"""Both ends of an interval; None where there is none."""


def shown(show: Callable[..., str], value: Any, *more: Any) -> str:
    """A figure as `show` makes text of it; a dash of one that is not there."""
    return NOTHING if value is None else show(value, *more)


def hidden(_: object) -> str:
    """A figure that tables do not show: a dash, whatever it is."""
    return NOTHING


def number(value: float) -> str:
    """A figure with four digits, or in powers of ten where it is very small or large."""
    return f"{value:,.4g}" if value == 0 or 1e-2 <= abs(value) < 1e6 else f"{value:.1e}"


def count(value: int) -> str:
    """A whole number, with a comma at every thousand."""
    return f"{value:,}"


def counted(value: int, what: str) -> str:
    """So many of what takes an ``s`` where there is not exactly one."""
    return f"{count(value)} {what}{'s' * (value != 1)}"


def signed(value: float, bounds: Bounds = None) -> str:
    """A change with its sign, and its interval where there is one."""
    return change(value) + (f" [{', '.join(map(change, bounds))}]" if bounds else "")


def change(value: float) -> str:
    """A change with its sign: four decimals, or powers of ten where it is very large or small."""
    return f"{value:+.4f}" if value == 0 or 1e-4 <= abs(value) < 1e4 else f"{value:+.1e}"


def nats(value: float) -> str:
    """A change in nats with three digits, for a sentence."""
    return f"{value:+.3g} nats"


def span(lowest: float, highest: float) -> str:
    """The smallest and the largest of some changes."""
    return change(lowest) if lowest == highest else f"{change(lowest)} to {change(highest)}"


def with_interval(value: float, bounds: Bounds) -> str:
    """A share from 0 to 1 with three decimals, and its interval with two where there is one."""
    return f"{value:.3f}" + (f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if bounds else "")


def share(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f}"


def tiny_share(value: float) -> str:
    """A share in percent that may be very small."""
    return f"{100 * value:.2g}"


def p_value(value: float) -> str:
    """A p-value, without digits that mean nothing."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
