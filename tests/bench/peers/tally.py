"""What every peer's job shares: its limits, and its report of how long it took, one line of JSON at the end."""

import json
import time

LIMIT_NANOUSD = 50 * 10**9
"""A tenant's spend at which a command is sent, once."""
ALIKE = 5
"""Tool calls with the same arguments in a row at which a run is stopped, once."""


class Tally:
    """Counts events and commands up to `goal` events, and the time from the first one until all is committed."""

    def __init__(self, goal: int) -> None:
        self._goal = goal
        self._events = 0
        self._commands = 0
        self._start_s = 0.0
        self._start_cpu_s = 0.0

    def count(self, *, commanded: bool) -> bool:
        """One more event was processed; returns whether it was the last one asked for."""
        if not self._events:
            self._start_s = time.monotonic()
            self._start_cpu_s = time.process_time()
        self._events += 1
        self._commands += commanded
        return self._events == self._goal

    def committed(self) -> None:
        """Everything is on the broker: report."""
        report = {
            "events": self._events,
            "commands": self._commands,
            "seconds": time.monotonic() - self._start_s,
            "cpu_seconds": time.process_time() - self._start_cpu_s,
        }
        print(json.dumps(report), flush=True)
