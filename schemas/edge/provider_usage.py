"""What a provider says was used or costs: a value of provider_usage.v1, a fact that nothing of ours went into."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.usage import EpochMs, Name

Report = Literal["usage", "cost"]
"""What was counted, or what it costs: providers report the two apart, and neither is worked out from the other."""
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
"""A day in UTC, as providers cut them."""


class Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was fetched at one time."""

    fetched_ms: EpochMs
    counts: dict[Name, int] = {}
    """Tokens and requests by the provider's own names; nothing for what a later report does not hold any more."""
    cost_nanousd: int | None = None
    """May be negative: credits are. None where the report says nothing of money."""


class ProviderUsage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of one report. `key`, `model` and `item` are None where the provider does not say which."""

    source: Name
    console: Name
    report: Report
    day: Day
    key: Name | None = None
    """The provider's id of the API key, for Google of the project; never a secret."""
    model: Name | None = None
    item: Name | None = None
    """What a bill calls it."""
    figures: Figures
    before: Figures | None = None
    """What the provider had said when the day was long enough over to be believed: it has corrected itself since."""
