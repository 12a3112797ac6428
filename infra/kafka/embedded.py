"""A broker inside this process, for the demo and for fast tests: librdkafka's mock cluster, with nothing to install.

It serves the Kafka protocol on loopback TCP, so other processes use it as they would use Kafka. What it is not:

* Transactional calls succeed, but nothing is isolated or fenced: read_committed readers see aborted records, and
  offsets sent in a transaction are not stored.
* Nothing is compacted and no topic setting is enforced (retention, record size, timestamp limits).
* A partition keeps 5 MiB; older records go without a word.
* When a member joins or leaves a group that already had members, everybody waits for the session time-out less one
  second (45 s by default), and for twice that with static membership. Give consumers a short `session.timeout.ms` and
  no `group.instance.id` here. Only the first assignment of a new group is immediate.
* The timestamp in an acknowledgement is made up; the record keeps the producer's.
* Everything is gone when the process ends. There is no CreateTopics for clients: use `create_topic`.

`python -m infra.kafka.embedded` runs one until its standard input closes or it is told to end.
"""

import argparse
import ctypes
import signal
import sys
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import confluent_kafka

from schemas.topics import load_topics, topic_name
from streams.process.ending import run_to_end

ALL_BROKERS: Final = -1

_PRODUCER: Final = 0
_CONF_OK: Final = 0
_ERROR_TEXT_BYTES: Final = 512


class Request(IntEnum):
    """Requests of the Kafka protocol that a test may want to fail, by their numbers there."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


class EmbeddedBrokerError(Exception):
    """The embedded broker could not be started or refused what was asked."""


class EmbeddedBroker:
    """A mock cluster; it runs from construction to `stop`.

    Args:
        brokers: how many brokers it pretends to have, numbered from 1.
        group_delay_ms: how long a new consumer group waits for more members before its first assignment.

    Raises:
        EmbeddedBrokerError: the client library is not the one bundled with confluent-kafka, or it refused.
    """

    def __init__(self, brokers: int = 1, group_delay_ms: int = 0) -> None:
        self._library = _load_library()
        self._client = _new_client(self._library)
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        if self._cluster is None:
            self._library.rd_kafka_destroy(self._client)
            raise EmbeddedBrokerError(f"a mock cluster of {brokers} brokers could not be started")
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap = address.decode()
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, group_delay_ms)

    def create_topic(self, name: str, partitions: int, replication: int = 1) -> None:
        """Create a topic; refused where it exists."""
        self._do("topic_create", name.encode(), partitions, replication)

    def create_topics(self, prefix: str, partitions: int) -> list[str]:
        """Create every declared topic with `prefix` before its name; returns the names on the broker."""
        names: list[str] = []
        for spec in load_topics().values():
            names.append(topic_name(prefix, spec.name))
            self.create_topic(names[-1], spec.partition_count(partitions))
        return names

    def delete_topic(self, name: str) -> None:
        """Remove a topic and its records, as an operator's slip would."""
        self._do("topic_delete", name.encode())

    def delete_records_before(self, topic: str, partition: int, offset: int) -> None:
        """Drop a partition's records before `offset`, as retention would."""
        self._do("partition_delete_records", topic.encode(), partition, offset)

    def fail_next(self, request: Request, error_code: int, times: int = 1) -> None:
        """Answer the next `times` requests of a kind with an error.

        Args:
            request: the kind of request.
            error_code: a code of `confluent_kafka.KafkaError`; `KafkaError._TRANSPORT` drops the connection instead.
            times: how many requests fail.
        """
        codes = (ctypes.c_int * times)(*[error_code] * times)
        self._library.rd_kafka_mock_push_request_errors_array(self._running(), request, times, codes)

    def stop_failing(self, request: Request) -> None:
        """Take back what is left of `fail_next` for a kind of request."""
        self._library.rd_kafka_mock_clear_request_errors(self._running(), request)

    def fail_topic(self, topic: str, error_code: int) -> None:
        """Report a topic with an error in metadata and when a transaction adds it; 0 heals it."""
        self._library.rd_kafka_mock_topic_set_error(self._running(), topic.encode(), error_code)

    def set_latency_ms(self, latency_ms: int, broker: int = ALL_BROKERS) -> None:
        """Delay every answer of a broker."""
        self._do("broker_set_rtt", broker, latency_ms)

    def take_down(self, broker: int = ALL_BROKERS) -> None:
        """Close a broker's connections and refuse new ones; its records stay."""
        self._do("broker_set_down", broker)

    def bring_up(self, broker: int = ALL_BROKERS) -> None:
        """Let a broker that was taken down answer again."""
        self._do("broker_set_up", broker)

    def move_leader(self, topic: str, partition: int, broker: int) -> None:
        """Make another broker the leader of a partition."""
        self._do("partition_set_leader", topic.encode(), partition, broker)

    def stop(self) -> None:
        """End the cluster and forget its records. Stopping twice is harmless."""
        if self._cluster is not None:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._client)
            self._cluster = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> int:
        if self._cluster is None:
            raise EmbeddedBrokerError("the embedded broker was stopped")
        return self._cluster

    def _do(self, function: str, *arguments: int | bytes) -> None:
        code: int = getattr(self._library, f"rd_kafka_mock_{function}")(self._running(), *arguments)
        if code != 0:
            text: bytes = self._library.rd_kafka_err2str(code)
            raise EmbeddedBrokerError(f"{function}{arguments}: {text.decode()}")


_POINTER: Final = ctypes.c_void_p
_TEXT: Final = ctypes.c_char_p
_INT: Final = ctypes.c_int
_INT16: Final = ctypes.c_int16
_INT32: Final = ctypes.c_int32
_INT64: Final = ctypes.c_int64
_SIZE: Final = ctypes.c_size_t

# Without these ctypes would cut pointers to 32 bits. Error codes are a C enumeration, which is an int.
_SIGNATURES: Final[dict[str, tuple[type | None, tuple[type, ...]]]] = {
    "rd_kafka_conf_new": (_POINTER, ()),
    "rd_kafka_conf_set": (_INT, (_POINTER, _TEXT, _TEXT, _TEXT, _SIZE)),
    "rd_kafka_new": (_POINTER, (_INT, _POINTER, _TEXT, _SIZE)),
    "rd_kafka_destroy": (None, (_POINTER,)),
    "rd_kafka_err2str": (_TEXT, (_INT,)),
    "rd_kafka_mock_cluster_new": (_POINTER, (_POINTER, _INT)),
    "rd_kafka_mock_cluster_destroy": (None, (_POINTER,)),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, (_POINTER,)),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (_POINTER, _INT32)),
    "rd_kafka_mock_topic_create": (_INT, (_POINTER, _TEXT, _INT, _INT)),
    "rd_kafka_mock_topic_delete": (_INT, (_POINTER, _TEXT)),
    "rd_kafka_mock_topic_set_error": (None, (_POINTER, _TEXT, _INT)),
    "rd_kafka_mock_partition_delete_records": (_INT, (_POINTER, _TEXT, _INT32, _INT64)),
    "rd_kafka_mock_partition_set_leader": (_INT, (_POINTER, _TEXT, _INT32, _INT32)),
    "rd_kafka_mock_push_request_errors_array": (None, (_POINTER, _INT16, _SIZE, ctypes.POINTER(_INT))),
    "rd_kafka_mock_clear_request_errors": (None, (_POINTER, _INT16)),
    "rd_kafka_mock_broker_set_rtt": (_INT, (_POINTER, _INT32, _INT)),
    "rd_kafka_mock_broker_set_down": (_INT, (_POINTER, _INT32)),
    "rd_kafka_mock_broker_set_up": (_INT, (_POINTER, _INT32)),
}


def _load_library() -> ctypes.CDLL:
    """The very library confluent-kafka runs on, whose wheel carries it beside (Linux) or inside (macOS) the package."""
    package = Path(confluent_kafka.__file__).parent
    folders = (package.with_name("confluent_kafka.libs"), package / ".dylibs")
    found = [path for folder in folders for path in sorted(folder.glob("librdkafka*"))]
    if not found:
        raise EmbeddedBrokerError(f"confluent-kafka's wheel carries no librdkafka in {' or '.join(map(str, folders))}")
    library = ctypes.CDLL(str(found[0]))
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise EmbeddedBrokerError(f"{found[0].name} does not offer {name}; take a newer confluent-kafka") from error
        function.restype = result
        function.argtypes = arguments
    return library


def _new_client(library: ctypes.CDLL) -> int:
    """The client handle that a mock cluster lives in; it never connects anywhere."""
    said = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
    conf = library.rd_kafka_conf_new()
    # Only errors: otherwise it warns that it has no broker to connect to, which is how it should be.
    if library.rd_kafka_conf_set(conf, b"log_level", b"3", said, len(said)) != _CONF_OK:
        raise EmbeddedBrokerError(said.value.decode())
    client: int | None = library.rd_kafka_new(_PRODUCER, conf, said, len(said))
    if client is None:
        raise EmbeddedBrokerError(said.value.decode())
    return client


def main(arguments: list[str] | None = None) -> int:
    """Run an embedded broker with all topics; its address is the only line on standard output."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka.embedded", description=main.__doc__)
    parser.add_argument("--topics-prefix", default="", help="put before every topic's name, separator included")
    parser.add_argument("--partitions", type=int, default=4, help="of each co-partitioned topic (default: 4)")
    asked = parser.parse_args(arguments)
    if asked.partitions < 1:
        parser.error("--partitions must be at least 1")
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    with EmbeddedBroker() as broker:
        broker.create_topics(asked.topics_prefix, asked.partitions)
        print(broker.bootstrap, flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(run_to_end(main))
