"""The embedded broker's own promises: faults on demand, and a process that others can use."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from infra.kafka.embedded import EmbeddedBroker, EmbeddedBrokerError, Request
from schemas.topics import load_topics
from tests.support.kafka import Record, produce, read_all, wait_until

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0


def impatient_producer(broker: EmbeddedBroker) -> Producer:
    """A producer that gives up after a second."""
    return Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 1_000, "log_level": 0})


def send(producer: Producer, topic: str) -> KafkaError | None:
    """Send one record; what became of it, None for success."""
    answers: list[KafkaError | None] = []
    producer.produce(topic, b"v", on_delivery=lambda error, _message: answers.append(error))
    producer.flush(PATIENCE_S)
    assert len(answers) == 1
    return answers[0]


def code_of(error: KafkaError | None) -> int:
    """An error's code, 0 for none."""
    return 0 if error is None else error.code()


def test_topics_have_the_partitions_asked_for(embedded: EmbeddedBroker) -> None:
    """All declared topics with one call, the co-partitioned ones with the same number, policies with one."""
    names = embedded.create_topics("demo.", partitions=3)
    topics = AdminClient({"bootstrap.servers": embedded.bootstrap}).list_topics(timeout=PATIENCE_S).topics
    expected = {f"demo.{name}": spec.partition_count(3) for name, spec in load_topics().items()}
    assert {name: len(topics[name].partitions) for name in names} == expected


def test_a_topic_made_twice_is_an_error_that_names_it(embedded: EmbeddedBroker) -> None:
    """The mistake is found where it is made."""
    embedded.create_topic("twice", 1)
    with pytest.raises(EmbeddedBrokerError, match="twice"):
        embedded.create_topic("twice", 1)


def test_requests_fail_as_often_as_asked(embedded: EmbeddedBroker) -> None:
    """A fault is exact: so many refusals, then the broker works again."""
    embedded.create_topic("t", 1)
    # One that the client neither retries nor remembers of the topic, so that each request is one outcome.
    embedded.fail_next(Request.PRODUCE, KafkaError.MSG_SIZE_TOO_LARGE, times=2)
    producer = impatient_producer(embedded)
    outcomes = [code_of(send(producer, "t")) for _ in range(3)]
    assert outcomes == [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.MSG_SIZE_TOO_LARGE, 0]


def test_faults_can_be_taken_back(embedded: EmbeddedBroker) -> None:
    """What was not used up does not reach the next test step."""
    embedded.create_topic("t", 1)
    embedded.fail_next(Request.PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED, times=50)
    embedded.stop_failing(Request.PRODUCE)
    assert send(impatient_producer(embedded), "t") is None


def test_a_broker_that_is_down_takes_nothing_and_keeps_what_it_had(embedded: EmbeddedBroker) -> None:
    """Down is an outage, not a loss."""
    embedded.create_topic("t", 1)
    producer = impatient_producer(embedded)
    assert send(producer, "t") is None
    embedded.take_down()
    assert code_of(send(producer, "t")) == KafkaError._MSG_TIMED_OUT
    embedded.bring_up()
    assert wait_until(lambda: send(producer, "t") is None, PATIENCE_S, "an acknowledged record")
    assert len(read_all(embedded.bootstrap, "t")) >= 2


def test_latency_beyond_the_clients_patience_is_a_time_out(embedded: EmbeddedBroker) -> None:
    """A slow broker is slow for everyone, until it is told not to be."""
    embedded.create_topic("t", 1)
    producer = impatient_producer(embedded)
    assert send(producer, "t") is None
    embedded.set_latency_ms(5_000)
    assert code_of(send(producer, "t")) == KafkaError._MSG_TIMED_OUT
    embedded.set_latency_ms(0)
    assert wait_until(lambda: send(producer, "t") is None, PATIENCE_S, "an acknowledged record")


def test_records_can_go_as_by_retention(embedded: EmbeddedBroker) -> None:
    """What is before the offset is gone, what is after it keeps its offset."""
    embedded.create_topic("t", 1)
    produce(embedded.bootstrap, "t", [Record(b"%d" % number) for number in range(6)])
    embedded.delete_records_before("t", 0, 4)
    assert [(each.offset, each.value) for each in read_all(embedded.bootstrap, "t")] == [(4, b"4"), (5, b"5")]


def test_leaders_can_move_between_brokers() -> None:
    """Clients follow the leader to another broker."""
    with EmbeddedBroker(brokers=2) as broker:
        broker.create_topic("t", 1, replication=2)
        producer = impatient_producer(broker)
        for leader in (1, 2, 1):
            broker.move_leader("t", 0, leader)
            wait_until(lambda: send(producer, "t") is None, PATIENCE_S, "an acknowledged record")
            metadata = producer.list_topics("t", timeout=PATIENCE_S).topics["t"]
            assert metadata.partitions[0].leader == leader


def test_a_deleted_topic_is_gone_and_can_be_made_anew(embedded: EmbeddedBroker) -> None:
    """An operator's slip: same name, nothing in it."""
    embedded.create_topic("t", 1)
    produce(embedded.bootstrap, "t", [Record(b"v")])
    embedded.delete_topic("t")
    embedded.create_topic("t", 1)
    assert read_all(embedded.bootstrap, "t") == []


def test_a_stopped_broker_says_so(embedded: EmbeddedBroker) -> None:
    """Stopping twice is harmless, using it afterwards is an error instead of a crash."""
    embedded.stop()
    embedded.stop()
    with pytest.raises(EmbeddedBrokerError, match="stopped"):
        embedded.create_topic("t", 1)
    with pytest.raises(EmbeddedBrokerError, match="stopped"):
        embedded.fail_next(Request.FETCH, KafkaError.BROKER_NOT_AVAILABLE)


@pytest.mark.parametrize("end", ["close its input", "SIGTERM"])
def test_as_a_process_it_serves_others_until_told_to_end(end: str) -> None:
    """The demo's processes find the topics at the printed address, and nothing is left running."""
    command = [sys.executable, "-m", "infra.kafka.embedded", "--topics-prefix", "demo.", "--partitions", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        bootstrap = process.stdout.readline().strip()
        written = produce(bootstrap, "demo.usage.v1", [Record(b"v", key=b"tenant")])
        assert [each.offset for each in read_all(bootstrap, "demo.usage.v1")] == [each.offset for each in written]
        if end == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=1)
