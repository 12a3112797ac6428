"""US dollars, as people and price tables write them, into whole nano-dollars."""

from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

from spendfuse._client.errors import InvalidEvent

Usd = Decimal | str | int | float
"""An amount of US dollars. A float is read by its shortest text, so that 0.1 is a tenth."""

MAX_EVENT_NANOUSD = 10**15
"""Of one event: a million dollars."""
MAX_CAP_NANOUSD = 10**18

_NANO = Decimal("1e-9")
_EXACT = Context(prec=60)


def nanousd(amount_usd: Usd, *, field: str = "cost_usd", limit_nanousd: int = MAX_EVENT_NANOUSD) -> int:
    """Return nano-dollars (1e-9 USD), rounded once, half up.

    Raises InvalidEvent for what is no finite, non-negative number, or is more than `limit_nanousd`.
    """
    if isinstance(amount_usd, bool) or not isinstance(amount_usd, (Decimal, str, int, float)):
        raise InvalidEvent(f"{field} must be a Decimal, str, int or float, not {type(amount_usd).__name__}")
    try:
        amount = amount_usd if isinstance(amount_usd, Decimal) else Decimal(str(amount_usd))
    except (InvalidOperation, ValueError):
        raise InvalidEvent(f"{field} is not a number") from None
    if not amount.is_finite():
        raise InvalidEvent(f"{field} must be finite")
    if amount < 0:
        raise InvalidEvent(f"{field} must not be negative")
    if amount > Decimal(limit_nanousd) * _NANO:
        raise InvalidEvent(f"{field} must be at most {limit_nanousd // 10**9} dollars")
    return int(amount.quantize(_NANO, ROUND_HALF_UP, _EXACT).scaleb(9, _EXACT))
