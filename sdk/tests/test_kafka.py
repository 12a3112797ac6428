"""Against a Kafka protocol cluster: what is emitted can be read, and what is commanded stops the run."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from spendfuse import Emitter, Guard, Stopped, derive_keys
from spendfuse._control.command import parse, record_key
from spendfuse._control.signing import KeyId, signed_headers
from spendfuse._kafka.transport import undelivered
from spendfuse._usage.transport import Record, Undelivered
from spendfuse.kafka import KafkaControl, KafkaTransport

TIMEOUT_S = 30.0
ROOT = b"the root key of the engine, in tests"
KEYS = derive_keys(ROOT, "acme")
CALL = {"type": "llm_call", "tenant_id": "acme", "run_id": "r1", "model": "m"}


PREFORKED = """
import os, sys
from spendfuse import Emitter, Guard, Stopped, keys_from_environment
from spendfuse.kafka import KafkaControl, KafkaTransport

emitter = Emitter(KafkaTransport(config={"log_level": 0}))
guard = Guard(KafkaControl(), emitter, when_blind="stop", tenant_id="acme", keys=keys_from_environment())
assert guard.wait_ready(30), guard.waiting_for
call = {"type": "llm_call", "tenant_id": "acme", "run_id": "parent", "model": "m"}
emitter.emit(call)
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        with emitter.run("acme", run_id=f"child-{number}") as run:
            guard.check(run)
            run.llm_call(model="m")
        try:
            guard.check(emitter.run("acme", run_id="r1"))
        except Stopped as stopped:
            assert stopped.command_id == "kill-1", stopped
            sys.exit(0)
        sys.exit("the kill was not heard")
    children.append(child)
emitter.emit(call)
endings = [os.waitpid(child, 0)[1] for child in children]
guard.close()
assert (endings, emitter.close(30)) == ([0, 0, 0], 0), endings
"""


@pytest.fixture
def service(bootstrap: str) -> Producer:
    """The service's side of the control topic."""
    return Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})


@pytest.fixture
def prefix(service: Producer) -> str:
    """An environment of this test's own, with a usage topic: the cluster makes one that such a producer asks about."""
    prefix = f"test-{uuid.uuid4().hex[:8]}."
    service.list_topics(prefix + "usage.v1", timeout=TIMEOUT_S)
    return prefix


@pytest.fixture
def kafka_emitter(bootstrap: str, prefix: str) -> Iterator[Emitter]:
    """An emitter on the cluster."""
    with Emitter(KafkaTransport(bootstrap, prefix=prefix)) as emitter:
        yield emitter


def command(service: Producer, prefix: str, action: str, seq: int, kid: KeyId = "engine") -> str:
    """Publish a signed command to run r1 of acme and wait until it is in the log; return its id."""
    now_ms = time.time_ns() // 1_000_000
    body = {
        "command_id": f"{action}-{seq}",
        "action": action,
        "tenant_id": "acme",
        "target": {"type": "run", "id": "r1"},
        "reason": "cap reached",
        "rule": "run-cost",
        "incident_id": "i1",
        "issued_ms": now_ms,
        "expires_ms": now_ms + 3_600_000,
        "seq": seq,
    }
    value = json.dumps(body).encode()
    parsed = parse(value)
    service.produce(
        prefix + "control.v1",
        key=record_key(parsed.tenant_id, parsed.target),
        value=value,
        headers=list(signed_headers(ROOT, kid, parsed, value)),
    )
    assert service.flush(TIMEOUT_S) == 0
    return parsed.command_id


def usage(bootstrap: str, prefix: str, count: int) -> list[Message]:
    """Read `count` records of the usage topic, sorted by partition and offset."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    topic = prefix + "usage.v1"
    partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    messages: list[Message] = []
    deadline_s = time.monotonic() + TIMEOUT_S
    while len(messages) < count and time.monotonic() < deadline_s:
        message = consumer.poll(0.5)
        if message is not None:
            assert message.error() is None, message.error()
            messages.append(message)
    consumer.close()
    return sorted(messages, key=lambda message: (message.partition(), message.offset()))


def test_what_is_emitted_can_be_read(bootstrap: str, prefix: str, kafka_emitter: Emitter) -> None:
    """One record per event: the tenant as key, JSON as value, the event's time as the record's."""
    with kafka_emitter.run(tenant_id="acme/ü", workflow="w") as run:
        run.llm_call(model="m", cost_usd="0.25", ts_ms=1_700_000_000_123)
    assert kafka_emitter.flush(TIMEOUT_S) == 0
    messages = usage(bootstrap, prefix, 3)
    events: list[dict[str, Any]] = [json.loads(message.value() or b"") for message in messages]
    assert [event["type"] for event in events] == ["run_started", "llm_call", "run_finished"]
    assert {message.key() for message in messages} == {"acme/ü".encode()}
    assert [message.timestamp()[1] for message in messages] == [event["ts_ms"] for event in events]
    assert (events[1]["cost_nanousd"], events[1]["ts_ms"]) == (250_000_000, 1_700_000_000_123)


def test_a_command_stops_the_run_and_is_answered(
    bootstrap: str, prefix: str, service: Producer, kafka_emitter: Emitter
) -> None:
    """From the control topic to the exception, and back to the usage topic as an acknowledgement."""
    command(service, prefix, "pause", 1)
    command(service, prefix, "resume", 2)
    control = KafkaControl(bootstrap, prefix=prefix)
    with Guard(control, kafka_emitter, when_blind="stop", tenant_id="acme", keys=KEYS) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        assert guard.stats.applied == 2

        def agent() -> None:
            with kafka_emitter.run(tenant_id="acme", run_id="r1") as run:
                guard.check(run)
                run.llm_call(model="m")
                command(service, prefix, "kill", 3)
                assert run.stop_event.wait(TIMEOUT_S)
                guard.check(run)

        with pytest.raises(Stopped, match="cap reached") as stopped:
            agent()
    assert stopped.value.command_id == "kill-3"
    assert kafka_emitter.flush(TIMEOUT_S) == 0
    events = [json.loads(message.value() or b"") for message in usage(bootstrap, prefix, 4)]
    assert [event["type"] for event in events] == ["run_started", "llm_call", "command_ack", "run_finished"]
    assert (events[2]["command_id"], events[2]["acted"], events[3]["status"]) == ("kill-3", "stopped", "killed")


def test_a_late_guard_reads_from_the_beginning(
    bootstrap: str, prefix: str, service: Producer, kafka_emitter: Emitter
) -> None:
    """A kill given before the agent started holds, a tombstone after it changes nothing."""
    command(service, prefix, "kill", 1)
    service.produce(prefix + "control.v1", key=record_key("acme", ("run", "r1")), value=None)
    assert service.flush(TIMEOUT_S) == 0
    control = KafkaControl(bootstrap, prefix=prefix)
    with Guard(control, kafka_emitter, when_blind="stop", tenant_id="acme", keys=KEYS) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        run = kafka_emitter.run(tenant_id="acme", run_id="r1")
        with pytest.raises(Stopped):
            guard.check(run)
        assert guard.stats.tombstone == 1


def test_a_guard_waits_for_its_topic(bootstrap: str, prefix: str, service: Producer, kafka_emitter: Emitter) -> None:
    """No topic is no news: the guard is blind until there is one, then reads it."""
    control = KafkaControl(bootstrap, prefix=prefix)
    with Guard(control, kafka_emitter, when_blind="stop", tenant_id="acme", keys=KEYS) as guard:
        assert not guard.wait_ready(0.3)
        with pytest.raises(Stopped, match="control topic"):
            guard.check(kafka_emitter.run(tenant_id="acme", run_id="r2"))
        command(service, prefix, "kill", 1)
        assert guard.wait_ready(TIMEOUT_S)
        guard.check(kafka_emitter.run(tenant_id="acme", run_id="r2"))


def test_a_guard_notices_that_the_broker_is_gone(prefix: str, kafka_emitter: Emitter) -> None:
    """Silence is told from absence: an idle topic stays fresh, a dead broker makes the guard blind."""
    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(cluster.list_topics(timeout=TIMEOUT_S).brokers.values()))
    command(cluster, prefix, "pause", 1)
    control = KafkaControl(f"{broker.host}:{broker.port}", prefix=prefix, config={"log_level": 0})
    with Guard(control, kafka_emitter, when_blind="stop", tenant_id="acme", keys=KEYS, blind_after_s=4.0) as guard:
        assert guard.wait_ready(TIMEOUT_S)
        first_s = control.fresh_at_s()
        assert first_s is not None
        deadline_s = time.monotonic() + TIMEOUT_S
        while (control.fresh_at_s() or 0) < first_s + 1.5:  # with nothing new on the topic
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert not guard.blind
        del cluster
        while not guard.blind:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def test_a_dead_broker_neither_blocks_nor_raises() -> None:
    """Nothing listens there: the agent goes on, the emitter says what is unsent."""
    transport = KafkaTransport("127.0.0.1:1", config={"log_level": 0, "queue.buffering.max.messages": 5})
    emitter = Emitter(transport, max_buffered=100)
    for _ in range(1_000):
        emitter.emit(CALL)
    assert emitter.flush(0.2) == 100
    assert emitter.stats.dropped == 900
    assert emitter.close(0.1) == 100


class FatalProducer:
    """A producer whose idempotence is lost: it accepts nothing more, and gives back what it held."""

    def __init__(self, error: KafkaError) -> None:
        self.error = error
        self.purged = False

    def produce(self, *_: object, **__: object) -> None:
        """Refuse."""
        raise KafkaException(self.error)

    def purge(self) -> None:
        """Give back."""
        self.purged = True

    def flush(self, timeout_s: float) -> int:
        """Nothing is left."""
        return 0


class GoodProducer(FatalProducer):
    """A producer that accepts."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def produce(self, *_: object, **fields: Any) -> None:
        """Accept."""
        self.values.append(fields["value"])


class StubbornProducer(FatalProducer):
    """As librdkafka's is when it may write no topic: it says the error again to whoever ends it."""

    def flush(self, timeout_s: float) -> int:
        """Raise what ended it."""
        raise KafkaException(self.error)


@pytest.mark.parametrize(
    "fatal",
    [
        FatalProducer(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "lost", fatal=True)),
        FatalProducer(KafkaError(KafkaError._FATAL, "Unable to produce message")),  # so does `produce` put it
        StubbornProducer(KafkaError(KafkaError._FATAL, "Unable to produce message")),
    ],
    ids=["fatal", "by its code", "again at the end"],
)
def test_a_producer_that_cannot_go_on_is_replaced(fatal: FatalProducer) -> None:
    """A fatal error ends the producer, not the emitter: the record comes back as retriable, the next one goes out."""
    good = GoodProducer()
    producers: list[Any] = [fatal, good]
    transport = KafkaTransport("unused", make_producer=lambda _: producers.pop(0))
    outcomes: list[Undelivered | None] = []
    for value in (b"1", b"2"):
        transport.send(Record("e", b"k", value, 0), lambda _, failure: outcomes.append(failure))
    assert [failure.retriable for failure in outcomes if failure is not None] == [True]
    assert (fatal.purged, good.values) == (True, [b"2"])


@pytest.mark.parametrize(
    ("code", "retriable"),
    [
        (KafkaError._MSG_TIMED_OUT, True),
        (KafkaError._PURGE_QUEUE, True),
        (KafkaError.NOT_ENOUGH_REPLICAS, True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, True),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, True),
        (KafkaError._UNKNOWN_TOPIC, True),
        (KafkaError.MSG_SIZE_TOO_LARGE, False),
        (KafkaError.INVALID_TIMESTAMP, True),
        (KafkaError.INVALID_RECORD, False),
    ],
)
def test_which_failures_are_worth_repeating(code: int, retriable: bool) -> None:
    """Only what is wrong with the record itself is given up; what an operator can mend is kept."""
    assert undelivered(KafkaError(code), "usage.v1").retriable is retriable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_preforked_children_on_kafka(bootstrap: str, prefix: str, service: Producer) -> None:
    """Emitter and guard were made and used before the fork. Every child obeys the kill that stood, each event of each
    process arrives once, and all of them end in order, not by a crash of the Kafka client at the end.
    """
    command(service, prefix, "kill", 1)
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "SPENDFUSE_KAFKA_BOOTSTRAP": bootstrap,
        "SPENDFUSE_PREFIX": prefix,
        "SPENDFUSE_TENANT_KEY": KEYS["engine"].hex(),
        "SPENDFUSE_LIFT_KEY": KEYS["lift"].hex(),
    }
    done = subprocess.run(
        [sys.executable, "-c", PREFORKED], env=environment, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    runs = [message.value() for message in usage(bootstrap, prefix, 2 + 3 * 4)]
    assert len(runs) == 2 + 3 * 4


def test_the_core_needs_no_kafka_client() -> None:
    """An agent without the extra can import everything else, and is told what to install."""
    script = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "import spendfuse, spendfuse.testing\n"
        "try:\n    import spendfuse.kafka\nexcept ImportError as error:\n    print(error)\n"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=path, capture_output=True, check=True)
    assert b'pip install "spendfuse[kafka]"' in done.stdout
