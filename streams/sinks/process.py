"""`python -m streams sink` from start to end: on and on, or once until what is there now has been written."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaException
from tqdm import tqdm

from schemas.errors import BrokerError, SettingsError, StateError
from streams.clock import monotonic_ms
from streams.kafka.admin import existing_topics
from streams.kafka.client import Admin
from streams.process.broker_watch import BrokerWatch
from streams.process.crash_points import VARIABLE, CrashPoints
from streams.process.logs import fields
from streams.process.policies import Policies
from streams.process.service import claimed_settings, watched
from streams.process.watchdog import when_told_to_end
from streams.settings import Settings, read_settings
from streams.sinks.metrics import SinkMetrics
from streams.sinks.prices import PolicyPrices
from streams.sinks.rows import TOPICS
from streams.sinks.sink import Sink
from streams.sinks.stores import HOW, open_store
from streams.sinks.stores.base import Store, StoreError

log = logging.getLogger("spendfuse.sink")

AGAIN_S: Final = 1.0
"""Before a store that did not take a batch is tried again."""


def run_sink(to: str | None) -> int:
    """Write into a store until told to end. Raises `SpendfuseError` with what to do."""
    with claimed_settings("sink") as settings:
        metrics, end = SinkMetrics(), threading.Event()
        when_told_to_end(end.set)
        with _sink(settings, store_of(settings, to), metrics) as sink:
            broker = BrokerWatch(settings)
            loop = Loop(sink, metrics, broker, end)
            sink.share()
            with watched(settings, metrics, broker, lambda: loop.beat_ms, lambda: loop.fault(settings)):
                loop.go_on()
    return 0


def run_once(to: str | None) -> int:
    """Write all that the topics hold now, with progress. Raises `SpendfuseError` with what to do."""
    settings = read_settings()
    with _sink(settings, store_of(settings, to), SinkMetrics()) as sink:
        ends = sink.take_all()
        with tqdm(total=sum(ends.values()), desc="filling", unit=" offsets", disable=None) as bar:
            while not sink.has_reached(ends):
                sink.step()
                bar.update(max(0, sink.position - bar.n))
    return 0


def run_tenant(to: str | None, tenant_id: str) -> int:
    """Make the schema in which a tenant sees what is its own, and say how to let it in."""
    store = store_of(read_settings(), to)
    try:
        schema = store.let_tenant_read(tenant_id)
    finally:
        store.close()
    print(
        f"{schema} has the views of {tenant_id} alone; docs/questions.md says how to let somebody read it and no more"
    )
    return 0


def store_of(settings: Settings, to: str | None) -> Store:
    """The store of `--to`, else of the settings. Raises `SettingsError`."""
    address = to or (settings.sink.get_secret_value() if settings.sink else None)
    if address is None:
        raise SettingsError(f"into which store? Give --to, or set SPENDFUSE_SINK: {HOW}")
    return open_store(address)


class Loop:
    """Step after step. A store that is away is waited for, and so is the broker."""

    def __init__(self, sink: Sink, metrics: SinkMetrics, broker: BrokerWatch, end: threading.Event) -> None:
        self._sink = sink
        self._broker = broker
        self._end = end
        self._away_ms: int | None = None
        """Since when the store has taken nothing."""
        metrics.store_away_seconds.set_function(lambda: self.away_s)

    @property
    def beat_ms(self) -> int:
        """When it last showed that it moves; to wait for the store is to move."""
        return monotonic_ms() if self._away_ms is not None else self._sink.beat_ms

    @property
    def away_s(self) -> float:
        """For how long the store has taken nothing."""
        return 0.0 if self._away_ms is None else (monotonic_ms() - self._away_ms) / 1000

    def fault(self, settings: Settings) -> str | None:
        """That the store has taken nothing for too long."""
        return f"the store has taken nothing for {self.away_s:.0f} s" if self.away_s > settings.unhealthy_s else None

    def go_on(self) -> None:
        """Until told to end."""
        while not self._end.is_set():
            try:
                self._sink.step()
            except StoreError as error:
                self._note_fault(error)
                self._end.wait(AGAIN_S)
            except BrokerError as error:
                if not self._broker.away_s:
                    raise
                log.error("the broker is waited for: %s", error)
                self._end.wait(AGAIN_S)
            else:
                self._note_success()

    def _note_fault(self, error: StoreError) -> None:
        if self._away_ms is None:
            self._away_ms = monotonic_ms()
            log.error("the store takes nothing; it is tried again: %s", error)

    def _note_success(self) -> None:
        if self._away_ms is not None:
            log.warning("the store takes rows again", extra=fields(away_s=round(self.away_s, 1)))
            self._away_ms = None


@contextmanager
def _sink(settings: Settings, store: Store, metrics: SinkMetrics) -> Iterator[Sink]:
    """A sink into a store whose tables are there."""
    existing_topics(settings, (*TOPICS, "policy.v1"))
    policies = None
    try:
        source = _source(settings)
        found = store.prepare(source)
        if found.source != source:
            raise StateError(
                f"{store.name} was filled from {found.source}, and this is {source}: offsets of one mean nothing in "
                "the other. Write into another store"
            )
        policies = Policies(settings, metrics.policy_faults)
        prices = PolicyPrices(settings, policies)
        crash = CrashPoints(os.environ.get(VARIABLE))
        sink = Sink(settings, store, found.store_id, prices, metrics, crash)
        log.info("sink started", extra=fields(store=store.name, store_id=found.store_id))
        try:
            yield sink
        finally:
            sink.close()
    except KafkaException as error:
        raise BrokerError(error.args[0].str()) from None
    finally:
        store.close()
        if policies is not None:
            policies.close()


def _source(settings: Settings) -> str:
    """The cluster, by its own id, and the prefix of its topics."""
    return f"{Admin(settings).list_topics(timeout=10).cluster_id}/{settings.prefix}"
