"""What the service relies on in a broker, asked of the embedded one and of a real Kafka alike.

What the embedded broker cannot do is written down as an expected failure, and strictly: the day it learns it, the test
fails and the note goes.
"""

import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # offered, but not exported

from infra.kafka.embedded import EmbeddedBroker
from streams.kafka.leaders import watermarks
from tests.support.kafka import Header, RealKafka, Record, fresh_prefix, produce, read_all, to_record, wait_until

SEED = 20261122
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Broker:
    """Either broker, as the tests see it."""

    bootstrap: str
    create: Callable[[str, int, dict[str, str]], None]
    patience_s: float
    """How long to wait for what may never come."""
    session_timeout_ms: int
    """The shortest a group member may ask for; on the embedded broker a change of members takes about as long."""

    def topic(self, partitions: int = 1, **config: str) -> str:
        """A new topic; settings by Kafka's names with underscores for dots."""
        name = f"{fresh_prefix()}usage"
        self.create(name, partitions, {key.replace("_", "."): value for key, value in config.items()})
        return name


def _on_real(kafka: RealKafka) -> Broker:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})

    def create(name: str, partitions: int, config: dict[str, str]) -> None:
        admin.create_topics([NewTopic(name, partitions, 1, config=config)], request_timeout=10)[name].result(20)
        wait_until(lambda: name in admin.list_topics(timeout=10).topics, PATIENCE_S, f"topic {name}")

    return Broker(kafka.bootstrap, create, patience_s=PATIENCE_S, session_timeout_ms=6_000)


def _on_embedded(mock: EmbeddedBroker) -> Broker:
    def create(name: str, partitions: int, _config: dict[str, str]) -> None:
        mock.create_topic(name, partitions)

    return Broker(mock.bootstrap, create, patience_s=1.0, session_timeout_ms=1_500)


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The broker named by the test's parameter."""
    if request.param == "embedded":
        with EmbeddedBroker() as mock:
            yield _on_embedded(mock)
    else:
        yield _on_real(request.getfixturevalue("kafka"))


ON_BOTH = pytest.mark.parametrize("broker", ["embedded", pytest.param("real", marks=pytest.mark.kafka)], indirect=True)


def on_real_only(reason: str, shown_by: type[BaseException] = AssertionError) -> pytest.MarkDecorator:
    """The promise holds on a real Kafka and, strictly, does not on the embedded broker, as this exception shows."""
    lacking = pytest.mark.xfail(strict=True, raises=shown_by, reason=f"embedded broker: {reason}")
    params = [pytest.param("embedded", marks=lacking), pytest.param("real", marks=pytest.mark.kafka)]
    return pytest.mark.parametrize("broker", params, indirect=True)


def member(broker: Broker, group: str, topic: str) -> AbstractContextManager[Consumer]:
    """A consumer of a group; closing it leaves the group."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
            "session.timeout.ms": broker.session_timeout_ms,
            "heartbeat.interval.ms": 200,
            "log_level": 2,
        }
    )
    consumer.subscribe([topic])
    return closing(consumer)


def take(consumer: Consumer, count: int) -> list[Message]:
    """The next `count` messages of a consumer."""
    messages: list[Message] = []

    def enough() -> bool:
        messages.extend(consumer.consume(count - len(messages), 0.1))
        return len(messages) >= count

    wait_until(enough, PATIENCE_S, f"{count} messages")
    faults = [fault for message in messages if (fault := message.error()) is not None]
    assert not faults
    return messages


def transactional(broker: Broker, transactional_id: str) -> Producer:
    """A producer with its transactions initialised."""
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "transactional.id": transactional_id,
            "retry.backoff.ms": 2,
            "retry.backoff.max.ms": 50,
            "log_level": 0,
        }
    )
    producer.init_transactions(PATIENCE_S)
    return producer


@ON_BOTH
def test_records_of_a_partition_keep_their_order_and_get_consecutive_offsets(broker: Broker) -> None:
    """Budgets are exact because a tenant's events arrive in the order in which they were written."""
    topic, rng = broker.topic(partitions=3), random.Random(SEED)
    sent = [Record(b"%d" % number, partition=rng.randrange(3)) for number in range(2_000)]
    produce(broker.bootstrap, topic, sent)
    found = read_all(broker.bootstrap, topic)
    for partition in range(3):
        values = [each.value for each in sent if each.partition == partition]
        assert [each.value for each in found if each.partition == partition] == values, f"seed {SEED}"
        offsets = [each.offset for each in found if each.partition == partition]
        assert offsets == list(range(len(values))), f"seed {SEED}"


@ON_BOTH
def test_a_key_always_meets_the_same_partition(broker: Broker) -> None:
    """One worker sees all of a tenant, whichever producer wrote it."""
    topic = broker.topic(partitions=8)
    keys = [b"tenant-%d" % number for number in range(40)]
    first = produce(broker.bootstrap, topic, [Record(b"1", key=key) for key in keys])
    second = produce(broker.bootstrap, topic, [Record(b"2", key=key) for key in keys])
    assert [each.partition for each in first] == [each.partition for each in second]
    assert len({each.partition for each in first}) > 1


@ON_BOTH
def test_keys_values_and_headers_come_back_as_they_were_sent(broker: Broker) -> None:
    """Tombstones, empty values and signatures in headers survive, repeated header names and their order included."""
    topic = broker.topic()
    headers: tuple[Header, ...] = (("kid", b"k1"), ("sig", b"\x00\xff"), ("kid", b"k2"), ("empty", b""), ("null", None))
    sent = [Record(b"\x00\xff", key=b"a", headers=headers), Record(None, key=b"a"), Record(b"", key=b""), Record(b"x")]
    produce(broker.bootstrap, topic, sent)
    found = read_all(broker.bootstrap, topic)
    assert [(e.value, e.key, e.headers) for e in found] == [(e.value, e.key, e.headers) for e in sent]


@ON_BOTH
def test_timestamps_stay_those_of_the_producer(broker: Broker) -> None:
    """A replayed log keeps its times, in any order."""
    topic = broker.topic()
    now_ms = int(time.time() * 1000)
    times_ms = [now_ms, now_ms - 365 * 86_400_000, 1_000, now_ms - 1]
    produce(broker.bootstrap, topic, [Record(b"v", timestamp_ms=each) for each in times_ms])
    assert [each.timestamp_ms for each in read_all(broker.bootstrap, topic)] == times_ms


@ON_BOTH
def test_end_offsets_say_what_there_is_to_read(broker: Broker) -> None:
    """Restore knows where to stop before it starts, also in an empty partition."""
    topic = broker.topic(partitions=2)
    produce(broker.bootstrap, topic, [Record(b"v", partition=0)] * 7)
    with member(broker, uuid.uuid4().hex, topic) as consumer:
        ends = [watermarks(consumer, TopicPartition(topic, each), PATIENCE_S) for each in range(2)]
    assert ends == [(0, 7), (0, 0)]


@ON_BOTH
def test_a_group_goes_on_where_it_committed(broker: Broker) -> None:
    """A restarted consumer gets what its predecessor had not committed, no less and no more."""
    topic, group = broker.topic(), uuid.uuid4().hex
    produce(broker.bootstrap, topic, [Record(b"%d" % number) for number in range(10)])
    with member(broker, group, topic) as consumer:
        take(consumer, 6)
        consumer.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    with member(broker, group, topic) as consumer:
        assert [message.value() for message in take(consumer, 6)] == [b"%d" % number for number in range(4, 10)]
        committed = consumer.committed([TopicPartition(topic, 0)], timeout=PATIENCE_S)
        assert [each.offset for each in committed] == [4]


@ON_BOTH
def test_groups_do_not_see_each_others_offsets(broker: Broker) -> None:
    """Alerting and the console read the same alerts, each at its own pace."""
    topic = broker.topic()
    produce(broker.bootstrap, topic, [Record(b"v")] * 3)
    for _ in range(2):
        with member(broker, uuid.uuid4().hex, topic) as consumer:
            take(consumer, 3)
            consumer.commit(asynchronous=False)


@ON_BOTH
def test_members_of_a_group_share_the_partitions(broker: Broker) -> None:
    """Every partition has exactly one owner while two are there, and the one that stays takes over what is left."""
    topic, group = broker.topic(partitions=4), uuid.uuid4().hex
    with member(broker, group, topic) as stays:
        with member(broker, group, topic) as leaves:
            wait_until(lambda: _owned(stays, leaves) == [[0, 1, 2, 3], 2, 2], PATIENCE_S, "two partitions each")
        wait_until(lambda: _owned(stays) == [[0, 1, 2, 3], 4], PATIENCE_S, "all four with the one that stayed")


def _owned(*consumers: Consumer) -> list[object]:
    """All owned partitions in order, then how many each consumer owns."""
    for consumer in consumers:
        consumer.consume(1, 0.05)  # joining and leaving happen in the call
    assigned = [[each.partition for each in consumer.assignment()] for consumer in consumers]
    return [sorted(itertools.chain(*assigned)), *map(len, assigned)]


@ON_BOTH
def test_a_committed_transaction_is_read(broker: Broker) -> None:
    """All records of a batch arrive, in every topic it wrote to."""
    topics = [broker.topic(), broker.topic()]
    producer = transactional(broker, uuid.uuid4().hex)
    producer.begin_transaction()
    for topic in topics:
        producer.produce(topic, b"committed")
    producer.commit_transaction(PATIENCE_S)
    # A commit is answered before all of its partitions have been told of it.
    found = [read_all(broker.bootstrap, topic, until=bool) for topic in topics]
    assert [[each.value for each in records] for records in found] == [[b"committed"]] * 2


@on_real_only("transactions are not isolated")
def test_an_aborted_transaction_is_never_read(broker: Broker) -> None:
    """No alert and no kill leaves for a batch that did not count."""
    topic = broker.topic()
    producer = transactional(broker, uuid.uuid4().hex)
    for value, finish in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(PATIENCE_S)
        finish(PATIENCE_S)
    assert [each.value for each in read_all(broker.bootstrap, topic, until=bool)] == [b"committed"]


@on_real_only("transactions are not isolated")
def test_an_open_transaction_is_not_read(broker: Broker) -> None:
    """A batch becomes visible whole: nobody acts on its first half."""
    topic = broker.topic()
    producer = transactional(broker, uuid.uuid4().hex)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(PATIENCE_S)
    before = read_all(broker.bootstrap, topic)
    producer.commit_transaction(PATIENCE_S)
    assert before == []
    assert [each.value for each in read_all(broker.bootstrap, topic, until=bool)] == [b"open"]


@on_real_only("offsets sent in a transaction are not stored")
def test_offsets_of_a_transaction_count_when_it_commits(broker: Broker) -> None:
    """Input is marked as used in the very moment in which its results become visible."""
    source, group = broker.topic(), uuid.uuid4().hex
    produce(broker.bootstrap, source, [Record(b"v")] * 5)
    producer = transactional(broker, uuid.uuid4().hex)
    with member(broker, group, source) as consumer:
        take(consumer, 3)
        producer.begin_transaction()
        at = [TopicPartition(source, 0, 3)]
        producer.send_offsets_to_transaction(at, consumer.consumer_group_metadata(), PATIENCE_S)
        producer.commit_transaction(PATIENCE_S)
        committed = consumer.committed([TopicPartition(source, 0)], timeout=PATIENCE_S)
    assert [each.offset for each in committed] == [3]


@on_real_only("a former producer of the same transactional id is not fenced", shown_by=pytest.fail.Exception)
def test_a_former_producer_of_the_same_id_is_fenced(broker: Broker) -> None:
    """A worker that was thought dead cannot finish its batch after its successor has begun."""
    topic, slot = broker.topic(), uuid.uuid4().hex
    zombie = transactional(broker, slot)
    zombie.begin_transaction()
    zombie.produce(topic, b"zombie")
    zombie.flush(PATIENCE_S)
    successor = transactional(broker, slot)
    with pytest.raises(KafkaException) as raised:
        zombie.commit_transaction(PATIENCE_S)
    assert raised.value.args[0].fatal()
    successor.begin_transaction()
    successor.produce(topic, b"successor")
    successor.commit_transaction(PATIENCE_S)
    assert [each.value for each in read_all(broker.bootstrap, topic, until=bool)] == [b"successor"]


@on_real_only("nothing is compacted")
def test_compaction_keeps_the_last_record_of_each_key(broker: Broker) -> None:
    """The changelog stays as small as the state, and what is left is the newest row of each key."""
    topic = broker.topic(cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01")
    rows = [Record(b"%d" % number, key=b"row-%d" % (number % 3)) for number in range(300)]
    produce(broker.bootstrap, topic, rows)
    expected = {b"row-0": b"297", b"row-1": b"298", b"row-2": b"299"}

    def compacted() -> bool:
        # A segment is cleaned only after a newer one was begun, which takes another record.
        produce(broker.bootstrap, topic, [Record(b"tick", key=b"tick")], idempotent=False)
        kept = [each for each in read_all(broker.bootstrap, topic) if each.key != b"tick"]
        assert {each.key: each.value for each in kept} == expected
        return len(kept) == len(expected)

    wait_until(compacted, broker.patience_s, "one record of each key")


@on_real_only("a partition keeps 5 MiB and drops its oldest records silently")
def test_nothing_is_dropped_because_there_is_much(broker: Broker) -> None:
    """The source of truth keeps what it took, however much."""
    topic = broker.topic()
    produce(broker.bootstrap, topic, [Record(b"%d:" % number + b"x" * 60_000) for number in range(120)])
    found = read_all(broker.bootstrap, topic)
    assert [(each.value or b"").split(b":")[0] for each in found] == [b"%d" % number for number in range(120)]


@on_real_only("topic settings are not enforced", shown_by=pytest.fail.Exception)
def test_a_record_larger_than_the_topic_takes_is_refused(broker: Broker) -> None:
    """The producer hears of it; nothing is cut or dropped."""
    topic = broker.topic(max_message_bytes="2000")
    with pytest.raises(KafkaException):
        produce(broker.bootstrap, topic, [Record(b"x" * 3_000)])


@on_real_only("topics cannot be created by clients", shown_by=KafkaException)
def test_an_operator_can_create_topics(broker: Broker) -> None:
    """`topics apply` has somebody to talk to."""
    name = fresh_prefix() + "made"
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 2, 1)], request_timeout=broker.patience_s)[name].result(2 * PATIENCE_S)
    wait_until(lambda: name in admin.list_topics(timeout=PATIENCE_S).topics, PATIENCE_S, f"topic {name}")


@ON_BOTH
def test_reading_until_a_condition_sees_what_is_written_meanwhile(broker: Broker) -> None:
    """The test driver itself: it goes on beyond the end until what is awaited has come."""
    topic = broker.topic()
    produce(broker.bootstrap, topic, [Record(b"first")])

    def second_is_there(found: Sequence[Record]) -> bool:
        if len(found) == 1:
            produce(broker.bootstrap, topic, [Record(b"second")])
        return len(found) >= 2

    assert [each.value for each in read_all(broker.bootstrap, topic, until=second_is_there)] == [b"first", b"second"]


@ON_BOTH
def test_a_message_reads_as_the_record_that_was_written(broker: Broker) -> None:
    """The test driver itself: what it says it wrote, and where, is what a consumer gets."""
    topic = broker.topic(partitions=3)
    acknowledged = produce(broker.bootstrap, topic, [Record(b"v", key=b"k", timestamp_ms=5_000)])
    with member(broker, uuid.uuid4().hex, topic) as consumer:
        assert [to_record(message) for message in take(consumer, 1)] == acknowledged
