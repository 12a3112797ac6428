"""Spend across tenants on its way out: summed up here, and sent to the partition where all of it comes together."""

from models.effects import Effect
from models.state.partition import PartitionState
from models.state.spend.unsent import Part
from schemas.internal.spend import ALL_TENANTS


class SpendAcross:
    """What a partition's tenants spend in scopes across tenants."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state

    def add(
        self, parts: tuple[Part, ...], stretch_ms: int, at_ms: int, nanousd: int, *, is_booked: bool = False
    ) -> None:
        """Count spend of the stretch of an hour that starts at `stretch_ms`; it leaves with the next delta."""
        state, unsent = self._state, self._state.unsent
        for part in parts:
            unsent.add(part, stretch_ms, at_ms, nanousd, state.now_ms, is_booked=is_booked)
        state.touch(unsent)
        if unsent.is_full:
            self.send()

    def send(self) -> None:
        """Publish what has been added since the last call, if there is anything."""
        unsent = self._state.unsent
        if not unsent.is_empty:
            self._state.publish(Effect("spend.v1", ALL_TENANTS, unsent.take()))
            self._state.touch(unsent)
