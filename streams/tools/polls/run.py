"""`poll`: what another system knows of calls, asked for again and again, and each call written once."""

import logging
import threading
from concurrent.futures import wait
from typing import Final

from schemas.errors import BrokerError, SettingsError
from streams.clock import monotonic_ms
from streams.kafka.admin import existing_topics, in_background
from streams.process.broker_watch import BrokerWatch
from streams.process.logs import fields
from streams.process.service import claimed_settings, watched
from streams.process.watchdog import when_told_to_end
from streams.provider_api import ProviderError
from streams.settings import Settings, read_others, read_settings
from streams.tools.polls.cursor import TOPIC
from streams.tools.polls.metrics import PollMetrics
from streams.tools.polls.reader import Reader
from streams.tools.polls.registry import POLLS

log = logging.getLogger("spendfuse.poll")

REFUSED: Final = (400, 401, 403, 404)
"""Answers to a question that is wrong, or whose key is."""
BEAT_S: Final = 1.0
END_S: Final = 10.0
"""How long a turn that is under way is waited for at the end."""
TURN_MS: Final = 600_000
"""How long one turn may take: the first reads all since it begins."""
SILENT_MS: Final = 600_000
"""A system that has not answered for so long makes the process unhealthy."""


def run_poll_once(name: str, tenant_id: str, *, since_ms: int) -> int:
    """Ask once. `since_ms` is where to begin a system that was never read.

    Raises:
        SettingsError: the system is not known, its variables are not set, or it refuses them.
        BrokerError: the system does not answer, or Kafka does not take what was found; nothing of it counts as read.
    """
    reader = open_reader(read_settings(), name, tenant_id, since_ms)
    try:
        reader.turn()
    except ProviderError as error:
        raise _told(error, name) from None
    return 0


def run_poll(name: str, tenant_id: str, *, since_ms: int, every_s: float) -> int:
    """Ask again and again until told to end. Raises as `run_poll_once`, but once it was answered, it asks on."""
    with claimed_settings("poller") as settings:
        metrics, broker, end = PollMetrics(), BrokerWatch(settings), threading.Event()
        loop = Loop(open_reader(settings, name, tenant_id, since_ms), name, every_s, metrics, end)
        when_told_to_end(end.set)
        with watched(settings, metrics, broker, lambda: loop.beat_ms, loop.fault):
            run_loop(loop, end)
    return 0


def run_loop(loop: "Loop", end: threading.Event) -> None:
    """Turn until the end, beside the main thread: a turn may wait for a system, or for a broker, for minutes. Raises as
    `Loop.go_on`.
    """
    turning = in_background(loop.go_on, "poll")
    while not turning.done() and not end.wait(BEAT_S):
        pass
    if not wait([turning], END_S).done:
        log.warning("a turn is given up; the next start goes on, and what is written again counts once")
        return
    turning.result()


def open_reader(settings: Settings, name: str, tenant_id: str, since_ms: int) -> Reader:
    """The reader of a system that is known by that name. Raises `SettingsError` or `BrokerError`."""
    source = POLLS.get(name)
    if source is None:
        raise SettingsError(f"--from {name}: not known; one of {', '.join(sorted(POLLS))}")
    existing_topics(settings, ["usage.v1", TOPIC])
    fetch = source.make(read_others(source.variables, name))
    return Reader(settings, fetch, name, tenant_id, since_ms=since_ms, overlap_ms=source.overlap_ms)


class Loop:
    """Turns at their times."""

    def __init__(self, reader: Reader, name: str, every_s: float, metrics: PollMetrics, end: threading.Event) -> None:
        self.beat_ms = monotonic_ms()
        """When it last showed that it moves; a turn may take its time."""
        self._reader = reader
        self._name = name
        self._every_s = every_s
        self._metrics = metrics
        self._end = end
        self._was_answered = False
        self._answered_ms = monotonic_ms()
        self._said = ""
        metrics.since_answer_seconds.labels(name).set_function(lambda: (monotonic_ms() - self._answered_ms) / 1000)
        for counter in (metrics.written, metrics.refused, metrics.failures):
            counter.labels(name)

    def fault(self) -> str | None:
        """What is wrong with a system that has not answered for too long."""
        silent_ms = monotonic_ms() - self._answered_ms
        if silent_ms <= SILENT_MS:
            return None
        return f"nothing of {self._name} was read for {silent_ms // 1000} s: {self._said}"

    def go_on(self) -> None:
        """Work until the end. Raises what `Reader.turn` does before the first answer."""
        while not self._end.is_set():
            self.beat_ms = monotonic_ms() + TURN_MS
            self._turn()
            self.beat_ms = monotonic_ms()
            self._wait()

    def _turn(self) -> None:
        try:
            found = self._reader.turn()
        except (ProviderError, BrokerError) as error:
            told = _told(error, self._name) if isinstance(error, ProviderError) else error
            if not self._was_answered and (told is error or isinstance(told, SettingsError)):
                raise told from None
            self._said = str(told)
            self._metrics.failures.labels(self._name).inc()
            log.warning("it is asked again later", extra=fields(source=self._name, error=self._said))
            return
        self._was_answered, self._answered_ms = True, monotonic_ms()
        self._metrics.written.labels(self._name).inc(len(found.written))
        self._metrics.refused.labels(self._name).inc(found.refused)

    def _wait(self) -> None:
        until_ms = monotonic_ms() + self._every_s * 1000
        while monotonic_ms() < until_ms and not self._end.wait(min(BEAT_S, self._every_s)):
            self.beat_ms = monotonic_ms()


def _told(error: ProviderError, name: str) -> SettingsError | BrokerError:
    """Why a turn came to nothing: a refusal is somebody's to mend, all else may pass."""
    if error.status in REFUSED:
        return SettingsError(f"{name} refuses with {error.status}; are address and key right? ({error})")
    return BrokerError(f"{name} does not answer: {error}")
