"""Money: an integer count of nano-dollars inside, dollars only where people write or read them."""

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

NANOUSD_PER_USD = 1_000_000_000

_NANO = Decimal("1e-9")
_MAX_DIGITS_OF_USD = 18
_EXACT = Context(prec=_MAX_DIGITS_OF_USD + 10)
_CENT_NANOUSD = NANOUSD_PER_USD // 100


def usd_to_nanousd(value: Decimal | int | str) -> int:
    """Dollars as nano-dollars, rounded half to even.

    A float is refused, because it has already lost what the author wrote: parse TOML with `parse_float=Decimal`.

    Raises:
        TypeError: `value` is a float, a bool, or no number at all.
        ValueError: not a number, not finite, negative, or 1e18 dollars and more.
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str):
        raise TypeError(f"an amount in dollars is a Decimal, an int or a str, not {type(value).__name__}")
    try:
        usd = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"not an amount in dollars: {str(value)[:40]!r}") from None
    if not usd.is_finite():
        raise ValueError(f"an amount in dollars must be finite, not {usd}")
    if usd < 0:
        raise ValueError("an amount in dollars must not be negative")
    if usd and usd.adjusted() >= _MAX_DIGITS_OF_USD:
        raise ValueError(f"an amount in dollars must be below 1e{_MAX_DIGITS_OF_USD}")
    return int(usd.quantize(_NANO, rounding=ROUND_HALF_EVEN, context=_EXACT).scaleb(9, context=_EXACT))


def format_usd(nanousd: int) -> str:
    """An amount for people: to the cent from ten cents on, two significant digits below.

    >>> [format_usd(n) for n in (4_200_000, 12_350_000_000, 1_204_000_000_000)]
    ['$0.0042', '$12.35', '$1,204.00']
    """
    sign = "-" if nanousd < 0 else ""
    nanousd = abs(nanousd)
    step = _CENT_NANOUSD
    if nanousd < 10 * _CENT_NANOUSD:
        step = 10 ** max(len(str(nanousd)) - 2, 0)
    return f"{sign}${_format_steps(_round_half_even(nanousd, step) * step)}"


def _round_half_even(value: int, step: int) -> int:
    quotient, remainder = divmod(value, step)
    return quotient + (2 * remainder + (quotient & 1) > step)


def _format_steps(nanousd: int) -> str:
    dollars, rest = divmod(nanousd, NANOUSD_PER_USD)
    fraction = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{dollars:,}.{fraction}"
