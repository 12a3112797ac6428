"""Dollars in, nano-dollars out, and back for people."""

import random
from decimal import Decimal
from fractions import Fraction

import pytest

from schemas.money import NANOUSD_PER_USD, format_usd, usd_to_nanousd


@pytest.mark.parametrize(
    ("usd", "nanousd"),
    [
        ("25", 25 * NANOUSD_PER_USD),
        (25, 25 * NANOUSD_PER_USD),
        (Decimal("0.1"), 100_000_000),
        ("0.000000001", 1),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.00000000050000000000000000000000000000001", 1),
        ("1e-999999", 0),
        ("-0", 0),
        ("0e999999", 0),
        ("999999999999999999.9999999994", 10**27 - 1),
    ],
)
def test_dollars_are_exact_and_rounded_half_to_even(usd: Decimal | int | str, nanousd: int) -> None:
    """An amount is exact to the nano-dollar; halves go to the even one, however many digits follow."""
    assert usd_to_nanousd(usd) == nanousd


def test_any_amount_rounds_as_exact_fractions_do() -> None:
    """Conversion equals rounding the exact fraction, for amounts of any size and number of digits."""
    seed = 20261122
    rng = random.Random(seed)
    for _ in range(2000):
        usd = Decimal(rng.randrange(10 ** rng.randint(1, 30))).scaleb(-rng.randint(12, 30))
        assert usd_to_nanousd(usd) == round(Fraction(usd) * NANOUSD_PER_USD), (seed, usd)


@pytest.mark.parametrize(
    "usd", ["NaN", "sNaN", "Infinity", "-Infinity", "-1", "-0.1", "ten", "", "1e18", "1e999999999"]
)
def test_what_is_no_amount_is_refused(usd: str) -> None:
    """Nothing infinite, negative, absurd or unreadable becomes money."""
    with pytest.raises(ValueError, match="amount in dollars"):
        usd_to_nanousd(usd)


@pytest.mark.parametrize("usd", [0.1, True, None])
def test_inexact_types_are_refused(usd: object) -> None:
    """A float has lost what was written already, so it is a programming error."""
    with pytest.raises(TypeError, match="amount in dollars"):
        usd_to_nanousd(usd)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (4_200_000, "$0.0042"),
        (4_249_999, "$0.0042"),
        (4_000_000, "$0.004"),
        (12_345_678, "$0.012"),
        (99_900_000, "$0.10"),
        (420_000_000, "$0.42"),
        (999_999_999, "$1.00"),
        (12_350_000_000, "$12.35"),
        (12_345_000_000, "$12.34"),
        (12_355_000_000, "$12.36"),
        (1_204_000_000_000, "$1,204.00"),
        (-12_350_000_000, "-$12.35"),
    ],
)
def test_people_read_as_many_digits_as_they_need(nanousd: int, text: str) -> None:
    """Cents from ten cents up, two significant digits below, thousands set apart."""
    assert format_usd(nanousd) == text
