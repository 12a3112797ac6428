"""Fixtures and guards for every test."""

import socket
from collections.abc import Iterator
from typing import NoReturn

import pytest

from infra.kafka.embedded import EmbeddedBroker
from infra.kafka.jars import KafkaUnavailableError
from infra.kafka.local import LocalKafka
from streams.kafka.client import Admin
from streams.kafka.topics import apply
from streams.settings import Settings
from tests.support.kafka import (
    RealKafka,
    TopicSpace,
    delete_topics,
    demanded,
    find_sources,
    fresh_prefix,
    start_kafka,
)
from tests.support.stores import PostgresServer, postgres_binaries

PARTITIONS = 4

_REAL_KAFKA_FIXTURES = {"kafka", "kafka_topics", "own_kafka", "asking"}

_LONG_FILES = (
    "test_alerting_crashes",
    "test_exactly_once",
    "test_day",
    "test_sink",
    "test_worker_lifecycle",
    "test_untrusted_state",
    "test_crash_points",
    "test_alerting",
    "test_restore_and_cuts",
    "test_whatever_the_rules",
    "test_alarms",
    "test_restore_under_another_policy",
    "test_embedded_worker",
    "test_asleep",
)
"""Test files of forty seconds and more, the longest first: one that begins last keeps everybody waiting."""


def pytest_report_header() -> str:
    return f"real Kafka: {find_sources()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a real Kafka by what it asks for, so that `-m "not kafka"` cannot miss one; where several
    processes share the files, put the long ones first.
    """
    for item in items:
        if _REAL_KAFKA_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)
    if hasattr(config, "workerinput"):
        rank = {name: place for place, name in enumerate(_LONG_FILES)}
        items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def kafka() -> Iterator[RealKafka]:
    """A real Apache Kafka shared by all tests of this process; skipped with the reason where this machine has none."""
    try:
        broker = start_kafka()
    except KafkaUnavailableError as error:
        do_without(str(error))
    yield broker
    broker.stop()


@pytest.fixture
def kafka_topics(kafka: RealKafka) -> Iterator[TopicSpace]:
    """All declared topics on the real Kafka, under a prefix of this test's own."""
    space = TopicSpace(kafka.bootstrap, fresh_prefix(), PARTITIONS)
    apply(Admin(Settings(kafka_bootstrap=kafka.bootstrap)), space.prefix, PARTITIONS, replication=1)
    yield space
    delete_topics(space.bootstrap, space.prefix)


@pytest.fixture
def own_kafka() -> Iterator[LocalKafka]:
    """A real Kafka of this test's own, which it may kill, pause and restart."""
    try:
        # After a kill the controller admits a broker again only when its former session has run out, by default in 9 s.
        # The shared broker keeps the default: on a busy machine a short session could end in the middle of a test.
        broker = LocalKafka({"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"})
    except KafkaUnavailableError as error:
        do_without(str(error))
    yield broker
    broker.stop()


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    """An embedded broker of this test's own, without topics."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A Postgres of these tests' own; skipped where this machine has none."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("no Postgres here: install it, such as Debian's postgresql-15")
    with PostgresServer(binaries) as server:
        yield server


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches beyond this machine from Python: a forgotten real address fails instead of being called."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: tuple[str, int] | str | bytes) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise OSError(f"tests stay on this machine, but this one wanted to connect to {address!r}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_loopback(host: object) -> bool:
    return host in ("localhost", "::1", "") or str(host).startswith("127.")


def do_without(reason: str) -> NoReturn:
    """Skip for want of a real Kafka, or fail where the run demands one."""
    if demanded():
        pytest.fail(f"a real Kafka is demanded, and there is none: {reason}", pytrace=False)
    pytest.skip(f"no real Kafka: {reason}")
