"""The hour around a moment, and the stretch of it in which no limit changes by itself."""

from models.state.partition import PartitionState


class Hours:
    """Remembers the last hour that was asked for: nearly all messages are in it."""

    __slots__ = ("_hour_end_ms", "_hour_start_ms", "_state", "end_ms", "start_ms")

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._hour_start_ms = 0
        self._hour_end_ms = 0
        self.start_ms = 0
        """Start of the current stretch: of its hour, or the last moment in it at which a limit changed."""
        self.end_ms = 0

    def limits_changed(self) -> None:
        """The stretches are others from here on."""
        self.end_ms = self._hour_end_ms = 0

    def around(self, at_ms: int) -> tuple[int, int]:
        """Start and end of the hour around `at_ms`."""
        if not self._hour_start_ms <= at_ms < self._hour_end_ms:
            self.move_to(at_ms)
        return self._hour_start_ms, self._hour_end_ms

    def move_to(self, at_ms: int) -> None:
        """Find the hour and the stretch around `at_ms`."""
        window = self._state.policy.calendar.window("hour", at_ms)
        self._hour_start_ms, self._hour_end_ms = window.start_ms, window.end_ms
        start_ms, end_ms = window.start_ms, window.end_ms
        for boundary_ms in (*self._state.policy.boundaries_ms, *self._state.raised_until_ms):
            if start_ms < boundary_ms <= at_ms:
                start_ms = boundary_ms
            elif at_ms < boundary_ms < end_ms:
                end_ms = boundary_ms
        self.start_ms, self.end_ms = start_ms, end_ms
