"""Spend across tenants on its way out: summed up here, and sent to the partition where all of it comes together."""

from models.effects import Effect
from models.state.partition import PartitionState
from models.state.spend.unsent import Part
from schemas.internal.spend import ALL_TENANTS


class SpendAcross:
    """What a partition's tenants spend in scopes across tenants."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state

    def add(self, parts: tuple[Part, ...], stretch_ms: int, at_ms: int, nanousd: int) -> None:
        """Count spend of the stretch of an hour that starts at `stretch_ms`; it leaves with the next delta."""
        for part in parts:
            running = part.running
            if running.stretch_ms != stretch_ms or running.is_sent:
                running = part.running = self._state.unsent.sum_of(part.key, stretch_ms, is_booked=False)
            running.nanousd += nanousd
            if at_ms > running.at_ms:
                running.at_ms = at_ms
        self._added()

    def book(self, parts: tuple[Part, ...], stretch_ms: int, at_ms: int, nanousd: int) -> None:
        """Likewise, of a day that is over."""
        for part in parts:
            booked = self._state.unsent.sum_of(part.key, stretch_ms, is_booked=True)
            booked.nanousd += nanousd
            booked.at_ms = max(booked.at_ms, at_ms)
        self._added()

    def send(self) -> None:
        """Publish what has been added since the last call, if there is anything."""
        unsent = self._state.unsent
        if not unsent.is_empty:
            self._state.publish(Effect("spend.v1", ALL_TENANTS, unsent.take()))
            self._state.touch(unsent)

    def _added(self) -> None:
        state, unsent = self._state, self._state.unsent
        if state.now_ms > unsent.ts_ms:
            unsent.ts_ms = state.now_ms
        if not unsent.dirty:
            state.touch(unsent)
        if unsent.is_full:
            self.send()
