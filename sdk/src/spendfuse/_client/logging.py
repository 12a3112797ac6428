"""A log that never raises, and warnings that stay readable when the same thing goes wrong ten thousand times."""

import logging
import threading
import time
from contextlib import suppress
from typing import Any

from spendfuse._client.fork import tell_of_forks

WARN_EVERY_S = 60.0


class DependableLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose filters and handlers, which are the agent's own, may fail: that ends no thread and no call."""

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name), {})

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        """Log, or do not."""
        with suppress(Exception):
            super().log(level, msg, *args, **{"stacklevel": 2, **options})


LOG = DependableLog("spendfuse")


class RareWarning:
    """Says one kind of thing at most once a minute, and how often it happened in between."""

    def __init__(self, text: str, *, level: int = logging.WARNING, log: DependableLog = LOG) -> None:
        """`text` is a %-format whose two places take the count since the last warning and the latest detail."""
        self._text = text
        self._level = level
        self._log = log
        self._count = 0
        self._next_s = 0.0
        self._lock = threading.RLock()  # a signal's handler may warn while its own thread does
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in a child; see `fork`."""
        self._lock = threading.RLock()

    def happened(self, detail: str = "") -> None:
        """Count it, and log unless that was done within the last minute."""
        now_s = time.monotonic()
        with self._lock:
            self._count += 1
            if now_s < self._next_s:
                return
            count, self._count, self._next_s = self._count, 0, now_s + WARN_EVERY_S
        self._log.log(self._level, self._text, count, detail)
