"""What a partition's tenants have spent in scopes across tenants since the last delta: one row of the partition."""

from typing import Any, Final, NamedTuple

from models.state.rows import Row, row_key_of
from schemas.internal.spend import ScopeSpend, SpendDelta

UNSENT_KEY: Final = row_key_of("unsent")
MOST_BYTES: Final = 64 * 1024
"""About: with more than this a delta leaves at once."""
ENTRY_BYTES: Final = 64
"""Of an entry without its names."""


class Part(NamedTuple):
    """A scope across tenants, and whose spend in it: what a route adds to."""

    meter_id: str
    values: tuple[str, ...]
    owner: str


class UnsentSpend(Row):
    """Sums by part and stretch of an hour. They are in the state, so that a restart neither loses nor doubles any."""

    __slots__ = ("_size", "_sums", "_ts_ms")
    kind = "unsent"

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[tuple[Part, int, bool], list[int]] = {}
        """Part, start of the stretch, whether booked -> the latest time in it, and nano-dollars."""
        self._ts_ms = 0
        self._size = 0

    @property
    def is_full(self) -> bool:
        """Whether it has to leave before it grows further."""
        return self._size >= MOST_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self._sums

    def add(
        self, part: Part, stretch_ms: int, at_ms: int, nanousd: int, append_ms: int, *, is_booked: bool = False
    ) -> None:
        """Add spend of the stretch that starts at `stretch_ms`."""
        key = (part, stretch_ms, is_booked)
        known = self._sums.get(key)
        if known is None:
            self._sums[key] = [at_ms, nanousd]
            self._size += ENTRY_BYTES + sum(len(name.encode()) for name in (part.meter_id, *part.values, part.owner))
        else:
            known[0] = max(known[0], at_ms)
            known[1] += nanousd
        self._ts_ms = max(self._ts_ms, append_ms)

    def take(self) -> SpendDelta:
        """What is to be sent; from here on nothing is."""
        delta = SpendDelta(
            ts_ms=self._ts_ms,
            amounts=[
                ScopeSpend(part.meter_id, part.values, part.owner, at_ms, nanousd, is_booked)
                for (part, _, is_booked), (at_ms, nanousd) in self._sums.items()
            ],
        )
        self._sums = {}
        self._ts_ms = self._size = 0
        return delta

    def key_parts(self) -> tuple[str, ...]:
        return ()

    def fields(self) -> tuple[Any, ...]:
        sums = [
            (*part, stretch_ms, is_booked, at_ms, nanousd)
            for (part, stretch_ms, is_booked), (at_ms, nanousd) in self._sums.items()
        ]
        return self._ts_ms, sums

    def read(self, fields: tuple[Any, ...]) -> None:
        """Take over what the row holds."""
        ts_ms, sums = fields
        for meter_id, values, owner, stretch_ms, is_booked, at_ms, nanousd in sums:
            part = Part(meter_id, tuple(values), owner)
            self.add(part, stretch_ms, at_ms, nanousd, ts_ms, is_booked=is_booked)
