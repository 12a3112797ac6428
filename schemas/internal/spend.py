"""spend.v1: what each partition's tenants have spent of what a rule counts across tenants. Between workers alone."""

from typing import Annotated, Final

import msgspec

from schemas.usage import EpochMs

ALL_TENANTS: Final = "spendfuse/all-tenants"
"""The tenant under which scopes across tenants are watched: its partition is where all of their spend comes together,
and its name stands on their alerts and in orders about them.
"""


class ScopeSpend(msgspec.Struct, frozen=True, array_like=True):
    """Nano-dollars that were spent in one scope within one stretch of an hour."""

    meter_id: str
    values: tuple[str, ...]
    owner: str
    """Whose they are, where several owners share the scope and a rule says who spent what; else empty."""
    at_ms: EpochMs
    """When the last of it was spent, by its own time: says in which hour, day and month all of it counts."""
    nanousd: Annotated[int, msgspec.Meta(ge=0)]
    is_booked: bool = False
    """Came more than a day late, and was sent again to be booked: of what is over nobody is told."""


class SpendDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent since the last one from the same partition. Whoever adds up all of them has the exact sums."""

    ts_ms: EpochMs
    """The latest append time among the messages that it sums up."""
    amounts: list[ScopeSpend]
