"""Does what is decided get out? Healthy is who committed lately, or has nothing to commit."""

from collections.abc import Callable

from streams.clock import monotonic_ms


class CommitHealth:
    """Told of every attempt to commit; asked from another thread.

    Args:
        limit_ms: attempts that fail for so long are a fault, and so much calm after the last one ends it.
        now_ms: a clock that never jumps.
    """

    def __init__(self, limit_ms: int, now_ms: Callable[[], int] = monotonic_ms) -> None:
        self._limit_ms = limit_ms
        self._now_ms = now_ms
        self._since_ms: int | None = None
        self._failed_ms = 0
        self._why = "the attempt does not end"

    def attempt(self) -> None:
        """There is something to commit, and it is tried."""
        if self._since_ms is None:
            self._since_ms = self._now_ms()

    def failed(self, why: str) -> None:
        """It was not committed; or what is needed for the next attempt failed."""
        self.attempt()
        self._failed_ms = self._now_ms()
        self._why = why

    def succeeded(self) -> None:
        """It was committed."""
        self._since_ms = None

    def nothing(self) -> None:
        """There is nothing to commit. After a failure that means something only once it lasts: what failed is still to
        be read again.
        """
        if self._since_ms is not None and self._now_ms() - self._failed_ms > self._limit_ms:
            self._since_ms = None

    @property
    def failing_s(self) -> float:
        """For how many seconds what was to be committed is not; 0 where all is."""
        since_ms = self._since_ms
        return 0.0 if since_ms is None else (self._now_ms() - since_ms) / 1000

    def fault(self) -> str | None:
        """What is wrong, in a sentence; None if nothing is."""
        failing_s = self.failing_s
        if failing_s * 1000 <= self._limit_ms:
            return None
        return f"nothing could be committed for {failing_s:.0f} s: {self._why}"
