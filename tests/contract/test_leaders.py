"""A partition without a leader is waited for: what asks a broker where a topic ends takes no refusal for an answer."""

from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from infra.kafka.embedded import EmbeddedBroker, Request
from schemas.errors import BrokerError
from streams.kafka import whole_topic
from streams.kafka.leaders import watermarks
from streams.kafka.state_reader import StateReader
from streams.kafka.time_range import records_between
from streams.kafka.whole_topic import committed_records, make_reader
from streams.settings import Settings
from tests.support.kafka import Record, produce

PARTITIONS = 2
EACH = 3
"""Records of each partition."""


@pytest.fixture
def settings(embedded: EmbeddedBroker) -> Settings:
    """A broker with some records in each partition of two topics."""
    embedded.create_topics("", PARTITIONS)
    records = [
        Record(b"%d" % number, b"row-%d" % number, partition=partition)
        for partition in range(PARTITIONS)
        for number in range(EACH)
    ]
    for topic in ("usage.v1", "state.v1"):
        produce(embedded.bootstrap, topic, records, idempotent=False)
    return Settings(kafka_bootstrap=embedded.bootstrap)


def rows(settings: Settings) -> Iterable[Any]:
    """All rows of the changelog."""
    found = StateReader(settings, lambda: None).read(range(PARTITIONS))
    return [key for partition in found.values() for key in partition]


READERS: dict[str, Callable[[Settings], Iterable[Any]]] = {
    "a whole topic": lambda settings: committed_records(settings, "usage.v1"),
    "the changelog": rows,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_readers_wait_for_a_leader(
    embedded: EmbeddedBroker, settings: Settings, read: Callable[[Settings], Iterable[Any]]
) -> None:
    """However many of its questions are refused, a reader misses nothing and does not give up."""
    for refusals in range(1, 7):
        embedded.fail_next(Request.LIST_OFFSETS, KafkaError.NOT_LEADER_FOR_PARTITION, refusals)
        assert len(list(read(settings))) == PARTITIONS * EACH, refusals


def test_a_stretch_of_time_waits_for_a_leader(embedded: EmbeddedBroker, settings: Settings) -> None:
    """Nor is it an error there. (The embedded broker finds no record by its time, and is read from its beginning.)"""
    for refusals in range(1, 7):
        embedded.fail_next(Request.LIST_OFFSETS, KafkaError.NOT_LEADER_FOR_PARTITION, refusals)
        assert len(list(records_between(settings, ["usage.v1"], 0, 2**60))) == PARTITIONS * EACH, refusals


def test_a_question_that_is_refused_for_good_is_an_error(embedded: EmbeddedBroker, settings: Settings) -> None:
    """No right to ask is said at once, though another question would be answered."""
    embedded.fail_next(Request.LIST_OFFSETS, KafkaError.TOPIC_AUTHORIZATION_FAILED, 2)
    with closing(make_reader(settings)) as consumer, pytest.raises(KafkaException) as refused:
        watermarks(consumer, TopicPartition("usage.v1", 0), 60)
    assert refused.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_leader_that_never_comes_is_an_error(
    embedded: EmbeddedBroker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for no longer than for any other answer; then the topic is named."""
    monkeypatch.setattr(whole_topic, "ANSWER_S", 0.5)
    embedded.fail_next(Request.LIST_OFFSETS, KafkaError.NOT_LEADER_FOR_PARTITION, 1000)
    with pytest.raises(BrokerError, match=r"does not say where usage\.v1 ends"):
        list(committed_records(settings, "usage.v1"))
