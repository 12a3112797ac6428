"""A client library that hangs must not take the fuse with it: a process that stands still ends, to be started again,
and so does one that was told to end and cannot, because it waits for a broker that is away.

Where it stood is on standard error then: the stacks of all its threads.
"""

import faulthandler
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, NoReturn, Self

from streams.clock import monotonic_ms
from streams.process.logs import fields

log = logging.getLogger("spendfuse.watchdog")
LOOK_EVERY_S = 1.0
EXIT_CODE = 70
END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
GRACE_S: Final = 25.0
"""From the signal to the end. Whoever supervises the process kills it later than that: Kubernetes after 30 s unless
told otherwise, `up` after 45."""


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
                _end("the loop does not move; the process ends", silent_ms=silent_ms)


class GracePeriod:
    """A process that is told to end while this is entered ends `limit_s` later at the latest, with a line and the
    stacks of all threads: what is under way then is gone on with at the next start, as after a crash.

    The interpreter tells of the signal by a pipe, whatever the main thread is at: it may be in a call of a client
    library that comes back in a minute. An event loop must leave that to it: `loop.add_signal_handler` would not.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._thread = threading.Thread(target=self._watch, name="grace-period", daemon=True)

    def __enter__(self) -> Self:
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)  # as the interpreter wants it
        signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Whoever was told to end has no more time for what is left, such as threads that the interpreter waits for."""
        signal.set_wakeup_fd(-1)
        os.close(self._writes)

    def _watch(self) -> None:
        while number := os.read(self._reads, 1):
            if number[0] in END_SIGNALS:
                threading.Event().wait(self._limit_s)
                _end("told to end, the process did not; it ends now", after_s=self._limit_s)
        os.close(self._reads)


def when_told_to_end(call: Callable[[], object]) -> None:
    """Have SIGTERM and SIGINT call that, in the main thread."""
    for number in END_SIGNALS:
        signal.signal(number, lambda *_: call())


def _end(why: str, **about: float) -> NoReturn:
    faulthandler.dump_traceback(all_threads=True)
    log.critical(why, extra=fields(**about))
    os._exit(EXIT_CODE)
