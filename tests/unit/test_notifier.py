"""The notifier of a partition: what it waits for before it sends and before it says that something is dealt with."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import pytest

from alerting.delivery.log import DeliveryLog
from alerting.effects import Record, Send, Sent
from alerting.notice import Receipt
from alerting.pipeline import Pipeline
from schemas.alert import Alert
from schemas.routing import parse_routing
from streams.clock import wall_ms
from streams.notifier.notifier import Notifier, RoutingChanged
from tests.support.telling import alert

WAIT_S = 10.0


class Desk:
    """A notifier with a broker that keeps records when told to, and receivers that say nothing by themselves."""

    def __init__(self) -> None:
        self.store: list[tuple[str, bytes | None]] = []
        self.unpublished: list[asyncio.Future[None]] = []
        self.said: list[Send] = []
        self.restored = 0
        self.fault: Exception | None = None
        self.moved = asyncio.Event()
        self.notifier = Notifier(self._restore, self._publish, self._send)

    async def _restore(self) -> Pipeline:
        self.restored += 1
        return Pipeline(parse_routing({}), DeliveryLog.read(self.store))

    async def _publish(self, record: Record) -> Awaitable[None]:
        self.store.append((record.key, record.value))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.fault is not None:
            future.set_exception(self.fault)
        self.unpublished.append(future)
        self.moved.set()
        return future

    def _send(self, send: Send, _notifier: Notifier) -> None:
        self.said.append(send)
        self.moved.set()

    async def keeps(self) -> None:
        """The broker acknowledges what it was given next."""
        while not self.unpublished:
            await asyncio.wait_for(self._until_moved(), WAIT_S)
        self.unpublished.pop(0).set_result(None)

    async def _until_moved(self) -> None:
        await self.moved.wait()
        self.moved.clear()


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 4 * WAIT_S))


def critical() -> Alert:
    return alert("i", 1.0, at_ms=wall_ms())


def test_nothing_is_sent_or_acknowledged_before_it_is_kept() -> None:
    """A message begins only when the broker has every record before it, and an alert counts as dealt with only when
    the broker has all that follows from it.
    """

    async def scene() -> None:
        desk, done = Desk(), asyncio.Event()
        work = asyncio.create_task(desk.notifier.run())
        await desk.notifier.submit(critical(), done.set)
        await desk.keeps()  # owed
        assert desk.said == []
        await desk.keeps()  # an attempt is made
        while not desk.said:
            await asyncio.sleep(0)
        await desk.notifier.finish()
        await work
        assert done.is_set()

    run(scene())


def test_an_alert_is_not_acknowledged_while_a_record_of_it_is_not_kept() -> None:
    """With the last record still on its way to the broker, the alert is not dealt with."""

    async def scene() -> None:
        desk, done = Desk(), asyncio.Event()
        work = asyncio.create_task(desk.notifier.run())
        await desk.notifier.submit(alert("i", 0.8, at_ms=wall_ms()), done.set)  # gathered: one record, nothing sent
        while not desk.unpublished:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not done.is_set()
        await desk.keeps()
        await asyncio.wait_for(done.wait(), WAIT_S)
        await desk.notifier.finish()
        await work

    run(scene())


def test_a_record_that_cannot_be_kept_stops_everything() -> None:
    """What follows from it is not done, and the alert is not acknowledged."""

    async def scene() -> None:
        desk, done = Desk(), asyncio.Event()
        desk.fault = ConnectionError("the broker has gone")
        work = asyncio.create_task(desk.notifier.run())
        await desk.notifier.submit(critical(), done.set)
        with pytest.raises(ConnectionError):
            await work
        assert desk.said == []
        assert not done.is_set()

    run(scene())


def test_another_routing_begins_from_the_log() -> None:
    """What was said before is known afterwards: the same alert is told once."""

    async def scene() -> None:
        desk, told = Desk(), critical()
        work = asyncio.create_task(desk.notifier.run())
        keeping = asyncio.create_task(_publish_all(desk))
        await desk.notifier.submit(told)
        while not desk.said:
            await asyncio.sleep(0)
        await desk.notifier.submit(Sent(desk.said[0].delivery_id, Receipt({"at": "1"}), wall_ms()))
        await desk.notifier.submit(RoutingChanged())
        await desk.notifier.submit(told)
        await desk.notifier.finish()
        await work
        keeping.cancel()
        assert desk.restored == 2
        assert len(desk.said) == 1

    run(scene())


async def _publish_all(desk: Desk) -> None:
    while True:
        await desk.keeps()
