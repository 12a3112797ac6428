"""A topic that is followed, and what is said once it no longer is."""

import threading
from collections.abc import Callable
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError

from streams.edge.follower import Follower
from streams.settings import Settings
from tests.support.kafka import wait_until

TAKEN = "a record"


class Topic:
    """One partition, as the client library tells of it."""

    def __init__(self) -> None:
        self.told: Queue[Any] = Queue()
        self.partitions = 1
        self.added: list[tuple[int, int]] = []
        self.looks = 0

    def consume(self, _: int, wait_s: float) -> list[Any]:
        threading.Event().wait(wait_s / 100)
        return [self.told.get()] if self.told.qsize() else []

    def tell(self, error: int | None) -> None:
        """A record, or what is wrong."""
        fault = None if error is None else KafkaError(error)
        self.told.put(SimpleNamespace(error=lambda: fault, value=lambda: TAKEN, partition=lambda: 0))

    def assign(self, _: object) -> None:
        """There is nothing to choose from."""

    def list_topics(self, topic: str, timeout: float) -> Any:
        """As many partitions as it has by now."""
        self.looks += 1
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=dict.fromkeys(range(self.partitions)))})

    def incremental_assign(self, places: list[Any]) -> None:
        """More of it is wanted."""
        self.added += [(place.partition, place.offset) for place in places]

    def close(self) -> None:
        """There is nothing to let go of."""


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    found = Topic()
    found.tell(KafkaError._PARTITION_EOF)
    monkeypatch.setattr("streams.edge.follower.make_consumer", lambda *_: found)
    existing = {"keys.v1": SimpleNamespace(partitions=[0])}
    monkeypatch.setattr("streams.edge.follower.existing_topics", lambda *_: existing)
    return found


def follower(take: Callable[[Any], None]) -> Follower:
    return Follower(Settings(), "keys.v1", take)


def test_a_right_that_is_taken_away_is_told_until_it_is_back(topic: Topic) -> None:
    """What it holds was true once; as soon as something comes again it is current."""
    taken: list[Any] = []
    with follower(taken.append) as followed:
        assert followed.fault is None
        topic.tell(KafkaError.TOPIC_AUTHORIZATION_FAILED)
        wait_until(lambda: followed.fault is not None, 10, "it is told")
        assert "does not allow it" in str(followed.fault)
        topic.tell(None)
        wait_until(lambda: taken, 10, "a record comes")
        assert followed.fault is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_is_told(topic: Topic) -> None:
    """A fault in whatever takes the records ends it for good."""

    def take(_: Any) -> None:
        raise KeyError("a fault of ours")

    with follower(take) as followed:
        topic.tell(None)
        wait_until(lambda: followed.fault is not None, 10, "it is told")
        assert followed.fault == "keys.v1 is not followed any more; the log says why"


def test_partitions_that_are_added_are_followed_from_their_beginning(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing depends on how many partitions such a topic has: what lies in a new one is shown as well, and once."""
    monkeypatch.setattr("streams.edge.follower.LOOK_EVERY_S", 0.0)
    with follower(lambda _: None):
        topic.partitions = 3
        wait_until(lambda: topic.added, 10, "they are followed")
        looks = topic.looks
        wait_until(lambda: topic.looks > looks + 2, 10, "it has looked again")
    assert topic.added == [(1, OFFSET_BEGINNING), (2, OFFSET_BEGINNING)]
