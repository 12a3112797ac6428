"""How old is what is known of the control topic?"""

import time

from spendfuse._client.clock import slept_s


class Freshness:
    """Since when nothing was heard that would tell of later commands. One thread notes, any thread may ask."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._slept_s = 0.0
        """How long the machine had slept when that was learned: sleep ages what was known before it."""

    def note(self, at_s: float | None) -> None:
        """Take note of the monotonic time up to which the topic is known to have been read."""
        if at_s != self._at_s:
            self._slept_s = slept_s()
            self._at_s = at_s

    @property
    def age_s(self) -> float | None:
        """Seconds; None before the topic was read through."""
        at_s = self._at_s
        return None if at_s is None else time.monotonic() - at_s + slept_s() - self._slept_s
