"""What others report of ids, names and money, within our bounds."""

from decimal import Decimal, InvalidOperation
from typing import Final

from models.identity import derived_id

LONGEST_ID: Final = 128
LONGEST_NAME: Final = 256


def short_id(value: object) -> str | None:
    """An id as it is, or one derived from it where it is too long; None where there is none."""
    text = "" if value is None else str(value)
    return (text if len(text) <= LONGEST_ID else derived_id(text)) if text else None


def short_name(value: object) -> str | None:
    """A name, cut where it is too long; None where there is none."""
    text = "" if value is None else str(value)
    return text[:LONGEST_NAME] or None


def prompt_version(name: object, version: object) -> str | None:
    """Which prompt, and which version of it, as one name."""
    return None if name is None or version is None else f"{name}@{version}"


def nanousd_or_none(usd: object) -> int | None:
    """Dollars as nano-dollars. 0 is nothing known: many write it for want of a price."""
    if isinstance(usd, bool) or not isinstance(usd, str | int | float):
        return None
    try:
        nanousd = round(Decimal(str(usd)) * 10**9)
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return nanousd if nanousd > 0 else None
