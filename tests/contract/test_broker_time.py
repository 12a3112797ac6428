"""Asking a broker what time it is, where it says nothing of use."""

import pytest

from infra.kafka.embedded import EmbeddedBroker
from streams import broker_time
from streams.broker_time import BrokerTime
from streams.clock import BrokerClock
from streams.settings import Settings
from tests.support.kafka import wait_until


def test_a_time_that_is_made_up_is_nobodys(embedded: EmbeddedBroker) -> None:
    """The embedded broker answers with a moment of 1970: a clock that believed it would fire everything on Monday."""
    embedded.create_topics("", 1)
    brokers = BrokerClock()
    BrokerTime(Settings(kafka_bootstrap=embedded.bootstrap), brokers, "state.v1").ask(0)
    assert not brokers.is_known


def test_a_broker_that_does_not_answer_is_asked_again_later(
    embedded: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds nobody up for longer than a few seconds, nor at every look, and what was known before stays known."""
    monkeypatch.setattr(broker_time, "ANSWER_S", 0.3)
    embedded.create_topics("", 1)
    embedded.take_down()
    brokers = BrokerClock()
    time = BrokerTime(Settings(kafka_bootstrap=embedded.bootstrap), brokers, "state.v1")
    assert not time.ask_when_due(0), "it is asked beside whatever else is done"
    wait_until(lambda: time.ask_when_due(0), 20, "it has been asked")
    assert [time.ask_when_due(0) for _ in range(3)] == [False] * 3
    assert not brokers.is_known
    assert [record.message for record in caplog.records] == ["the brokers' time is not known"]
    brokers.heard(broker_time.EARLIEST_MS)
    time.ask(0)
    assert brokers.is_known
