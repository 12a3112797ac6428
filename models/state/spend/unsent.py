"""What a partition's tenants have spent in scopes across tenants since the last delta: one row of the partition."""

from typing import Any, Final

from models.state.rows import Row, row_key_of
from schemas.internal.spend import ScopeSpend, SpendDelta

UNSENT_KEY: Final = row_key_of("unsent")
MOST_BYTES: Final = 64 * 1024
"""About: with more than this a delta leaves at once."""
SUM_BYTES: Final = 64
"""Of a sum without its names."""

PartKey = tuple[str, tuple[str, ...], str]
"""Meter, values of its dimensions, owner."""


class UnsentSum:
    """Spend in one part within one stretch of an hour, so far."""

    __slots__ = ("at_ms", "is_sent", "nanousd", "stretch_ms")

    def __init__(self, stretch_ms: int) -> None:
        self.stretch_ms = stretch_ms
        self.at_ms = 0
        """The latest time of any of it."""
        self.nanousd = 0
        self.is_sent = False


class Part:
    """A scope across tenants, and whose spend in it: what a route adds to."""

    __slots__ = ("key", "running")

    def __init__(self, meter_id: str, values: tuple[str, ...], owner: str) -> None:
        self.key: PartKey = (meter_id, values, owner)
        self.running = UnsentSum(-1)
        """The sum that was added to last: nearly always the one to add to next."""


class UnsentSpend(Row):
    """Sums by part and stretch of an hour. They are in the state, so that a restart neither loses nor doubles any."""

    __slots__ = ("_size", "_sums", "ts_ms")
    kind = "unsent"

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[tuple[PartKey, int, bool], UnsentSum] = {}
        """Part, start of the stretch, whether booked -> the sum."""
        self._size = 0
        self.ts_ms = 0
        """The latest append time among the messages summed up."""

    @property
    def is_full(self) -> bool:
        """Whether it has to leave before it grows further."""
        return self._size >= MOST_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self._sums

    def sum_of(self, key: PartKey, stretch_ms: int, *, is_booked: bool) -> UnsentSum:
        """The sum to add to, of the stretch that starts at `stretch_ms`."""
        found = self._sums.get((key, stretch_ms, is_booked))
        if found is None:
            found = self._sums[key, stretch_ms, is_booked] = UnsentSum(stretch_ms)
            meter_id, values, owner = key
            self._size += SUM_BYTES + sum(len(name.encode()) for name in (meter_id, *values, owner))
        return found

    def take(self) -> SpendDelta:
        """What is to be sent; from here on nothing is."""
        amounts = []
        for ((meter_id, values, owner), _, is_booked), one in self._sums.items():
            one.is_sent = True
            amounts.append(ScopeSpend(meter_id, values, owner, one.at_ms, one.nanousd, is_booked))
        delta = SpendDelta(ts_ms=self.ts_ms, amounts=amounts)
        self._sums = {}
        self._size = self.ts_ms = 0
        return delta

    def key_parts(self) -> tuple[str, ...]:
        return ()

    def fields(self) -> tuple[Any, ...]:
        sums = [
            (*key, stretch_ms, is_booked, one.at_ms, one.nanousd)
            for (key, stretch_ms, is_booked), one in self._sums.items()
        ]
        return self.ts_ms, sums

    def read(self, fields: tuple[Any, ...]) -> None:
        """Take over what the row holds."""
        self.ts_ms, sums = fields
        for meter_id, values, owner, stretch_ms, is_booked, at_ms, nanousd in sums:
            one = self.sum_of((meter_id, tuple(values), owner), stretch_ms, is_booked=is_booked)
            one.at_ms, one.nanousd = at_ms, nanousd
