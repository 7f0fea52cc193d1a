"""Figures as text, against what is written by hand."""

from __future__ import annotations

import pytest

from harness.results import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (97.194, "97.19"),
        (-0.5, "-0.5"),
        (1234.56, "1,235"),
        (0.01, "0.01"),
        (0.00999, "1.0e-02"),
        (2.8e-4, "2.8e-04"),
        (2e6, "2.0e+06"),
        (1e300, "1.0e+300"),
    ],
)
def test_a_number_has_four_digits_or_a_power_of_ten(value: float, text: str) -> None:
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0.0, "<0.001"), (1e-300, "<0.001"), (0.00099, "<0.001")],
        *[(0.001, "0.001"), (0.04964, "0.050"), (1.0, "1.000")],
    ],
)
def test_a_p_value_has_no_digits_that_mean_nothing(value: float, text: str) -> None:
    assert numbers.p_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0.0, "+0.0000"), (0.03712, "+0.0371"), (-12.5, "-12.5000"), (0.0001, "+0.0001")],
        # Four decimals would hide the one and be mostly noise of the other.
        *[(-2.4e-6, "-2.4e-06"), (123456.0, "+1.2e+05")],
    ],
)
def test_a_change_has_its_sign(value: float, text: str) -> None:
    assert numbers.change(value) == text


def test_intervals_and_spans() -> None:
    assert numbers.signed(0.03712, (0.0315, 0.0439)) == "+0.0371 [+0.0315, +0.0439]"
    assert numbers.signed(-12.5) == "-12.5000"
    assert numbers.span(0.0007, 0.0007) == "+0.0007"
    assert numbers.span(-0.0001, 0.0007) == "-0.0001 to +0.0007"
    assert numbers.with_interval(0.125, (0.1, 0.2)) == "0.125 [0.10, 0.20]"
    assert numbers.with_interval(0.125, None) == "0.125"


def test_shares_and_counts() -> None:
    assert numbers.share(0.8674) == "86.7"
    assert numbers.tiny_share(668 / 3_967_232) == "0.017"
    assert numbers.count(1_243_000) == "1,243,000"
    assert numbers.nats(0.15893) == "+0.159 nats"


def test_a_dash_stands_for_what_is_not_there() -> None:
    assert numbers.shown(numbers.signed, None, (0.0, 1.0)) == numbers.NOTHING == "–"
    assert numbers.shown(numbers.signed, 0.0, None) == "+0.0000"
    assert numbers.shown(numbers.span, -1.0, 1.0) == "-1.0000 to +1.0000"
    assert numbers.shown(numbers.hidden, 0.5) == "–"


def test_what_is_counted_takes_an_s() -> None:
    found = [numbers.counted(value, "text") for value in (0, 1, 2, 1_000)]
    assert found == ["0 texts", "1 text", "2 texts", "1,000 texts"]
