"""An emitter on a transport in memory, and librdkafka's mock cluster for what must be true of Kafka."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from spendfuse import Emitter
from spendfuse.testing import MemoryTransport


@pytest.fixture
def transport() -> MemoryTransport:
    """A transport that keeps what it is given."""
    return MemoryTransport()


@pytest.fixture
def emitter(transport: MemoryTransport) -> Iterator[Emitter]:
    """An emitter on `transport`."""
    with Emitter(transport) as emitter:
        yield emitter


@pytest.fixture(scope="session")
def bootstrap() -> Iterator[str]:
    """The address of a mock cluster; it lives as long as its producer, which has it make a usage topic by asking."""
    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = cluster.list_topics("usage.v1", timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    del cluster
