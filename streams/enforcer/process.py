"""`python -m streams enforcer` from start to end: a thread for each key, none waits for another's provider."""

import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from schemas.codec import encode
from schemas.edge.enforcement import Enforcement
from schemas.errors import BrokerError
from streams.clock import monotonic_ms, seconds, sleepless_ms, wall_ms
from streams.enforcer.config import EnforcerSettings, read_enforcers
from streams.enforcer.enforcer import Enforcer, Wanted
from streams.enforcer.levers import lever_of
from streams.enforcer.metrics import EnforcerMetrics
from streams.enforcer.standing import Standing
from streams.kafka.admin import existing_topics
from streams.kafka.client import write_one
from streams.kafka.whole_topic import committed_records
from streams.process.broker_watch import BrokerWatch
from streams.process.logs import fields
from streams.process.service import claimed_settings, watched
from streams.process.watchdog import when_told_to_end
from streams.provider_api import ProviderError
from streams.settings import Settings
from streams.tracing.enforcing import EnforcerTraces
from streams.tracing.exporting import tracing

log = logging.getLogger("spendfuse.enforcer")

TOPIC: Final = "enforcements.v1"
LOOK_S: Final = 0.5
"""Between two looks at what stands."""
OVERDUE_S: Final = 60.0
"""A key that is not as it is wanted for so long makes the process unhealthy."""
END_S: Final = 15.0
"""How long calls to providers that are under way are waited for at the end: longer than one of them may take."""


def run_enforcer(path: Path) -> int:
    """Keep the keys of a file as the commands want them, until told to end. Raises `SpendfuseError` with what to do."""
    with claimed_settings("enforcer") as settings, tracing("enforcer") as tracer:
        configured = read_enforcers(path)
        existing_topics(settings, (TOPIC, "control.v1"))
        metrics, broker, traces = EnforcerMetrics(), BrokerWatch(settings), EnforcerTraces(tracer)
        enforcers, end = _enforcers(settings, configured), threading.Event()
        when_told_to_end(end.set)
        with (
            Standing(settings, traces.take) as standing,
            Threads(enforcers, standing, metrics, traces) as threads,
            watched(settings, metrics, broker, lambda: threads.beat_ms, threads.fault),
        ):
            log.info("enforcing", extra=fields(enforcers=len(enforcers)))
            end.wait()
    return 0


def enforcements(settings: Settings) -> dict[str, Enforcement]:
    """Enforcer -> what it has done. Raises `BrokerError`."""
    decode = msgspec.json.Decoder(Enforcement).decode
    found = {}
    for message in committed_records(settings, TOPIC):
        try:
            done = decode(message.value() or b"")
            found[done.enforcer] = done
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.error("a record of enforcements.v1 cannot be read", extra=fields(offset=message.offset()))
    return found


def _enforcers(settings: Settings, configured: Iterable[EnforcerSettings]) -> list[Enforcer]:
    known = enforcements(settings)

    def write(done: Enforcement) -> None:
        write_one(settings, TOPIC, done.enforcer.encode(), encode(done), "the step of an enforcer")

    enforcers = [Enforcer(one, lever_of(one), known.pop(one.name, None), write) for one in configured]
    for left in known.values():
        if left.steps[-1].state != "open" and left.steps[-1].is_ours:
            log.error(
                "an enforcer that is not in the file any more has closed a key: put it back into the file, or open the "
                "key at its provider",
                extra=fields(enforcer=left.enforcer, provider=left.provider, key=left.key),
            )
    return enforcers


class Threads:
    """The enforcers at work while it is entered."""

    def __init__(
        self, enforcers: list[Enforcer], standing: Standing, metrics: EnforcerMetrics, traces: EnforcerTraces
    ) -> None:
        self._enforcers = enforcers
        self._standing = standing
        self._metrics = metrics
        self._traces = traces
        self._end = threading.Event()
        self._beats = dict.fromkeys(range(len(enforcers)), monotonic_ms())
        self._threads = [
            threading.Thread(target=self._go_on, args=(number,), name=f"enforce-{one.settings.name}", daemon=True)
            for number, one in enumerate(enforcers)
        ]
        metrics.blind.set_function(lambda: standing.is_blind)
        for one in enforcers:
            _show(one, metrics)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        until_s = seconds() + END_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - seconds()))
            if thread.is_alive():  # its step is written down: the next start goes on with it, as after a crash
                log.warning("a key is left half switched; the next start goes on", extra=fields(thread=thread.name))

    @property
    def beat_ms(self) -> int:
        """When the slowest of them last showed that it moves."""
        return min(self._beats.values(), default=monotonic_ms())

    def fault(self) -> str | None:
        """Whose key has not been as it is wanted for a minute."""
        late = [one.settings.name for one in self._enforcers if one.overdue_s(sleepless_ms()) > OVERDUE_S]
        return f"not switched for over a minute: {', '.join(late)}" if late else None

    def _go_on(self, number: int) -> None:
        enforcer = self._enforcers[number]
        while not self._end.wait(LOOK_S):
            self._beats[number] = monotonic_ms()
            wanted = self._standing.wanted(enforcer.settings)
            if wanted is not None:
                self._step(enforcer, wanted)

    def _step(self, enforcer: Enforcer, wanted: Wanted) -> None:
        said = {"enforcer": enforcer.settings.name, "key": enforcer.settings.key, "command_id": wanted.command_id}
        begun_ms = wall_ms()
        try:
            done = enforcer.step(wanted, sleepless_ms())
        except (ProviderError, BrokerError) as error:
            self._traces.tried(enforcer, wanted, begun_ms, error)
            self._metrics.failures.labels(enforcer.settings.name).inc()
            log.error("a key could not be switched: %s", error, extra=fields(attempts=enforcer.failures, **said))
            return
        if done is not None:
            self._traces.tried(enforcer, wanted, begun_ms)
            log.warning("a key was switched: %s", done, extra=fields(reason=wanted.reason, **said))


def _show(enforcer: Enforcer, metrics: EnforcerMetrics) -> None:
    name = enforcer.settings.name
    metrics.closed.labels(name).set_function(lambda: enforcer.is_closed)
    metrics.overdue_seconds.labels(name).set_function(lambda: enforcer.overdue_s(sleepless_ms()))
