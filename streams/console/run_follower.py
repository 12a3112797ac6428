"""The usage of one run while somebody looks at it: read from where the run began, then followed."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from models.prices.book import PriceBook
from schemas.codec import decode_usage
from schemas.duration import MINUTE_MS
from schemas.errors import SpendfuseError, Undecodable
from streams.clock import monotonic_ms
from streams.console.call_tree import CallTree
from streams.kafka.admin import existing_topics
from streams.kafka.client import make_consumer
from streams.kafka.partitioner import partition_of
from streams.kafka.time_range import offsets_at
from streams.process.logs import fields
from streams.settings import Settings

log = logging.getLogger("spendfuse.console")

CHUNK: Final = 2_000
WAIT_S: Final = 0.1
END_S: Final = 5.0
MOST_FOLLOWED: Final = 24
"""Runs at a time; one more is looked at once somebody leaves another."""
LINGER_MS: Final = MINUTE_MS
"""How long a run is followed on after nobody looks at it any more: a reload finds it as it was."""


class RunFollower:
    """One run's calls, taken in a thread of its own."""

    def __init__(self, settings: Settings, tenant_id: str, tree: CallTree, since_ms: int) -> None:
        self.lock = threading.Lock()
        self.tree = tree
        self.fault: str | None = None
        self.is_caught_up = False
        self.looked_at_ms = monotonic_ms()
        self._settings = settings
        self._tenant_id = tenant_id
        self._since_ms = since_ms
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-run", daemon=True)
        self._thread.start()

    @property
    def version(self) -> tuple[int, bool, str | None]:
        """Another one whenever there is something new to show."""
        return self.tree.version, self.is_caught_up, self.fault

    def end(self) -> None:
        """Stop following."""
        self._end.set()

    def wait_end(self) -> None:
        """Wait until its thread is done with the broker."""
        self._thread.join(END_S)

    def _follow(self) -> None:
        consumer = make_consumer(self._settings, "spendfuse-reader", {"fetch.wait.max.ms": 100})
        try:
            consumer.assign([self._start(consumer)])
            while not self._end.is_set():
                self._read(consumer)
        except (SpendfuseError, KafkaException) as error:
            self.fault = f"the calls cannot be read: {error}"
            log.warning("a run is not followed", extra=fields(error=str(error)))
        finally:
            consumer.close()

    def _start(self, consumer: Consumer) -> TopicPartition:
        """The tenant's partition, from when the run began."""
        topic = self._settings.topic("usage.v1")
        count = len(existing_topics(self._settings, ["usage.v1"])[topic].partitions)
        asked = TopicPartition(topic, partition_of(self._tenant_id.encode(), count), self._since_ms)
        [found] = offsets_at(consumer, [asked])
        return TopicPartition(topic, asked.partition, found.offset or OFFSET_BEGINNING)

    def _read(self, consumer: Consumer) -> None:
        messages: list[Any] = consumer.consume(CHUNK, WAIT_S)
        with self.lock:
            for message in messages:
                error = message.error()
                if error is None:
                    self._take(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    self.is_caught_up = True

    def _take(self, message: Any) -> None:
        value = message.value()
        if message.key() != self._tenant_id.encode() or value is None or not self._may_be_part(value):
            return
        try:
            usage = decode_usage(value)
        except Undecodable:
            return
        if usage.tenant_id == self._tenant_id:
            self.tree.take(usage)

    def _may_be_part(self, value: bytes) -> bool:
        """Whether it names a run of the tree: most records of a busy tenant don't, and are not decoded for it."""
        return b"\\" in value or any(run_id.encode() in value for run_id in (self.tree.run_id, *self.tree.runs))


class RunFollowers:
    """The runs that somebody looks at, each followed once however many look."""

    def __init__(
        self, settings: Settings, prices: Callable[[], PriceBook], now_ms: Callable[[], int] = monotonic_ms
    ) -> None:
        self._settings = settings
        self._prices = prices
        self._now_ms = now_ms
        self._followers: dict[tuple[str, str], RunFollower] = {}

    def __len__(self) -> int:
        return len(self._followers)

    def look(self, tenant_id: str, run_id: str, began_ms: Callable[[], int]) -> RunFollower | None:
        """The follower of a run, which somebody looks at now; None while too many are looked at. `began_ms` is asked
        where it is new.
        """
        self._leave()
        key = (tenant_id, run_id)
        found = self._followers.get(key)
        if found is None:
            if len(self._followers) >= MOST_FOLLOWED and not self._make_room():
                return None
            tree = CallTree(run_id, self._prices())
            found = self._followers[key] = RunFollower(self._settings, tenant_id, tree, began_ms())
        found.looked_at_ms = self._now_ms()
        return found

    def end(self) -> None:
        """Follow nothing any more."""
        for follower in self._followers.values():
            follower.end()
        for follower in self._followers.values():
            follower.wait_end()
        self._followers.clear()

    def _leave(self) -> None:
        for key, follower in list(self._followers.items()):
            if self._now_ms() - follower.looked_at_ms > LINGER_MS or follower.fault is not None:
                follower.end()
                del self._followers[key]

    def _make_room(self) -> bool:
        """Leave the run that nobody has looked at for longest; whether there was one."""
        key, oldest = min(self._followers.items(), key=lambda one: one[1].looked_at_ms)
        if self._now_ms() - oldest.looked_at_ms < 5_000:
            return False
        oldest.end()
        del self._followers[key]
        return True
