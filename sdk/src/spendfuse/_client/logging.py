"""Warnings that stay readable when the same thing goes wrong ten thousand times."""

import logging
import threading
import time

from spendfuse._client.fork import tell_of_forks

LOG = logging.getLogger("spendfuse")
WARN_EVERY_S = 60.0


class RareWarning:
    """Says one kind of thing at most once a minute, and how often it happened in between."""

    def __init__(self, text: str, *, level: int = logging.WARNING, logger: logging.Logger = LOG) -> None:
        """`text` is a %-format whose two places take the count since the last warning and the latest detail."""
        self._text = text
        self._level = level
        self._logger = logger
        self._count = 0
        self._next_s = 0.0
        self._lock = threading.Lock()
        tell_of_forks(self)

    def forked(self) -> None:
        """Begin anew in a child; see `_fork`."""
        self._lock = threading.Lock()

    def happened(self, detail: str = "") -> None:
        """Count it, and log unless that was done within the last minute."""
        now_s = time.monotonic()
        with self._lock:
            self._count += 1
            if now_s < self._next_s:
                return
            count, self._count, self._next_s = self._count, 0, now_s + WARN_EVERY_S
        self._logger.log(self._level, self._text, count, detail)
