"""A client library that hangs must not take the fuse with it: a process that stands still ends, to be started again.

Where it stood is on standard error then: the stacks of all its threads.
"""

import faulthandler
import logging
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from streams.clock import monotonic_ms
from streams.process.logs import fields

log = logging.getLogger("spendfuse.watchdog")
LOOK_EVERY_S = 1.0
EXIT_CODE = 70


class Watchdog:
    """Ends the process, with a line and the stacks of all threads, once `last_beat_ms` has not moved for `limit_ms`."""

    def __init__(self, last_beat_ms: Callable[[], int], limit_ms: int) -> None:
        self._last_beat_ms = last_beat_ms
        self._limit_ms = limit_ms
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            silent_ms = monotonic_ms() - self._last_beat_ms()
            if silent_ms > self._limit_ms:
                faulthandler.dump_traceback(all_threads=True)
                log.critical("the loop does not move; the process ends", extra=fields(silent_ms=silent_ms))
                os._exit(EXIT_CODE)
