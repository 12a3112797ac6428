"""Did this process, or its machine, stand still for longer than its group waits? Then others own its partitions."""

import asyncio
from collections.abc import Callable

from streams import clock

EVERY_S = 0.5


class Heartbeat:
    """The process's own heartbeat. `stopped` is called once it was missing for `limit_ms`, with how long it was: what
    the process knows is out of date then, and must not be acted on.
    """

    def __init__(self, limit_ms: int, stopped: Callable[[int], None], now_ms: Callable[[], int] = clock.sleepless_ms):
        self._limit_ms = limit_ms
        self._stopped = stopped
        self._now_ms = now_ms
        self._last_ms = now_ms()

    def check(self) -> None:
        """Call before anything that only the owner of a partition may do."""
        silent_ms = self._now_ms() - self._last_ms
        if silent_ms > self._limit_ms:
            self._stopped(silent_ms)

    def touch(self) -> None:
        """Show that the process runs."""
        self.check()
        self._last_ms = self._now_ms()

    async def run(self) -> None:
        """Touch it every half second until cancelled."""
        while True:
            self.touch()
            await asyncio.sleep(EVERY_S)
