"""How far behind is alerting, and does it still read the topic that it has read?"""

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_INVALID, TopicPartition
from faust.types import TP

from schemas.errors import BrokerError
from streams.kafka.client import Admin
from streams.notifier.lag import Lag, TopicTruncated
from streams.settings import Settings


class Reader:
    """A consumer that has read each partition up to record 10."""

    def read_to(self, tp: TP) -> int:
        """The last record that was read."""
        return 10

    async def position(self, tp: TP) -> int:
        """The next record to be fetched."""
        return 11


@pytest.mark.parametrize(
    ("alerts_end", "orders_end", "lag"), [(11, 11, 0), (15, 11, 4), (10, 11, 0), (9, 11, None), (15, 3, None)]
)
def test_what_is_missing_of_a_topic_is_noticed(
    alerts_end: int, orders_end: int, lag: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that ends before what was read of it has lost records, or is another: that is no lag of 0."""

    async def ends(_self: Lag, places: list[TopicPartition]) -> dict[TP, int]:
        assert {each.topic for each in places} == {"alerts", "orders", "log"}
        return {TP("alerts", 0): alerts_end, TP("orders", 0): orders_end, TP("log", 0): 0}

    monkeypatch.setattr(Lag, "_ends", ends)
    measuring = Lag(Settings(), "alerts", "orders", log="log").measure(Reader(), [0])
    if lag is None:
        with pytest.raises(TopicTruncated, match="has lost records"):
            asyncio.run(measuring)
    else:
        assert asyncio.run(measuring).behind == {0: lag}


def test_a_log_that_ends_before_where_it_ended_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said once, of a partition that was owned at the look before: another's process may have made it anew since."""
    log_ends = iter([{0: 7, 1: 5}, {0: 7, 1: 2}, {0: 9, 1: 2}, {1: 0}, {0: 1, 1: 0}])

    async def ends(_self: Lag, places: list[TopicPartition]) -> dict[TP, int]:
        found = next(log_ends)
        return {TP(each.topic, each.partition): found[each.partition] if each.topic == "log" else 11 for each in places}

    monkeypatch.setattr(Lag, "_ends", ends)
    lag = Lag(Settings(), "alerts", "orders", log="log")
    owned = ([0, 1], [0, 1], [0, 1], [1], [0, 1])
    assert [asyncio.run(lag.measure(Reader(), numbers)).cut for numbers in owned] == [[], [1], [], [1], []]


def test_a_leader_that_does_not_answer_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that goes away leaves an offset that is none, without an error: the topic has lost nothing by that."""

    def unanswered(_self: Admin, places: dict[TopicPartition, Any], **_: Any) -> dict[TopicPartition, "Future[Any]"]:
        futures = {each: Future[Any]() for each in places}
        for future in futures.values():
            future.set_result(SimpleNamespace(offset=OFFSET_INVALID))
        return futures

    monkeypatch.setattr(Admin, "list_offsets", unanswered)
    with pytest.raises(BrokerError) as raised:
        asyncio.run(Lag(Settings(), "alerts", "orders", log="log").measure(Reader(), [0]))
    assert not isinstance(raised.value, TopicTruncated)
