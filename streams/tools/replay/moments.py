"""Moments as people write them: how long ago, or a date."""

import re
from datetime import datetime

from schemas.duration import UNITS_MS
from schemas.errors import SettingsError
from schemas.policy import epoch_ms


def moment_ms(text: str, name: str, now_ms: int) -> int:
    """Epoch milliseconds of `7d` (so long ago) or `2026-12-01T00:00Z`. Raises `SettingsError`, with `name` at fault."""
    ago = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if ago is not None:
        return max(0, now_ms - int(ago[1]) * UNITS_MS[ago[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{name} {text!r}: write how long ago, such as 90m or 7d, or a time such as 2026-12-01T00:00Z"
        ) from None
    if at.tzinfo is None:
        minutes = at.isoformat(timespec="minutes")
        raise SettingsError(f"{name} {text!r}: say in which time zone, such as {minutes}Z or {minutes}+01:00")
    return epoch_ms(at)
