"""The alerting process: two Faust agents bring alerts and orders to the notifiers of the partitions that it owns.

Faust decides who owns a partition, fetches and commits; each partition's `Notifier` decides and remembers. An alert is
acknowledged by hand, once all that follows from it is on deliveries.v1: Faust would acknowledge at the end of the
loop body, however it ends.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn

import faust
from confluent_kafka import KafkaException
from faust.types import TP, EventT

from alerting.delivery.dispatcher import Pending
from alerting.delivery.log import KEEP_CLOSED_MS, DeliveryLog
from alerting.delivery.throttle import Throttle
from alerting.effects import Failed, Record, Send, Sent
from alerting.pipeline import Pipeline
from models.rules.policy import Policy
from schemas.alert import WATCHDOG, Alert
from schemas.codec import decode_alert
from schemas.errors import BrokerError, SpendfuseError, Undecodable
from streams import clock
from streams.broker_time import BrokerTime
from streams.clock import BrokerClock
from streams.kafka.order_reader import OrderReader
from streams.kafka.state_reader import ChangelogStalled, Rows, StateReader
from streams.notifier.committed import committed_app
from streams.notifier.heartbeat import Heartbeat
from streams.notifier.lag import Lag, LogMissing, Progress, TopicTruncated, alerts_read
from streams.notifier.metrics import NotifierMetrics
from streams.notifier.notifier import LogLost, Notifier, RoutingChanged, Stimulus
from streams.notifier.own_alerts import (
    MOST_NAMED,
    PolicyWatch,
    ReceiverWatch,
    TopicsWatch,
    deliveries_lost_alert,
    set_aside_alert,
    unreadable_alert,
)
from streams.notifier.reviews import FIRST_PARTITION, WeeklyReviews
from streams.notifier.senders import open_senders
from streams.notifier.sending import SenderPool
from streams.process.crash_points import CrashPoints
from streams.process.logs import fields
from streams.settings import Settings
from streams.tracing.span import Tracer
from streams.tracing.telling import TellingTraces

log = logging.getLogger("spendfuse.alerting")

HAND_OVER_S = 5.0
"""How long partitions that go elsewhere are held for the outcome of messages in flight."""
LOOK_EVERY_S = 1.0
FAULT_OF_OURS = 70
REFUSED_ORDERS = ("bad_signature", "bad_time")
"""Why an order that can be read is obeyed by nobody."""


class AssignmentError(Exception):
    """A partition's alerts were assigned without its operators' messages."""


class StoodStill(Exception):
    """The process was frozen, or its machine was, for longer than the group waits."""


class NotifierApp:
    """All of `python -m alerting` that runs in its event loop. Make it inside the loop."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        metrics: NotifierMetrics,
        crash: CrashPoints,
        brokers: BrokerClock,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._metrics = metrics
        self._crash = crash
        self._order_reader = OrderReader.of(settings)
        self._alerts = settings.topic("alerts.v1")
        self._orders = settings.topic("operator.v1")
        self._deliveries = settings.topic("deliveries.v1")
        self._notifiers: dict[int, Notifier] = {}
        self._working: dict[int, asyncio.Task[None]] = {}
        self._reviewing: list[asyncio.Task[None]] = []
        """What runs where the first partition is, once for all: weekly reviews, and the look at the topics."""
        self._paging: set[asyncio.Task[None]] = set()
        self._lag = Lag(settings, self._alerts, self._orders, log=self._deliveries)
        for topic in (self._alerts, self._orders):
            metrics.unreadable.labels(topic)  # a series that begins with its first record hides that one from a rate
        self._policy_watch = PolicyWatch()
        self._receiver_watch = ReceiverWatch()
        self._progress = Progress()
        self.heartbeat = Heartbeat(settings.session_timeout_ms, self._stood_still)
        self._dropped: dict[tuple[int, str], int] = {}
        self.progress_ms = clock.monotonic_ms()
        """When this process last made progress, or had nothing to do."""
        self.waits_for: str | None = None
        """What must be done by a person before anything can be sent; None for nothing."""
        self._throttle = Throttle(policy.routing.all_receivers)
        self._brokers = brokers
        self._traces = TellingTraces(tracer, brokers)
        self._time = BrokerTime(settings, brokers, "deliveries.v1")
        self._asking: asyncio.Task[None] | None = None
        metrics.host_clock_ahead_seconds.set_function(lambda: brokers.host_ahead_ms / 1000)
        self._senders = self._sender_pool(policy)
        self.app = self._make_app()

    @property
    def partitions(self) -> list[int]:
        """Partitions of alerts.v1 that this process answers for and whose log it has read."""
        return sorted(number for number, notifier in self._notifiers.items() if notifier.pipeline is not None)

    async def change(self, policy: Policy) -> bool:
        """Go on with another policy; returns whether its routing is another one.

        Raises:
            SettingsError: a secret that it names is missing; nothing is changed then.
        """
        routing = policy.routing
        if routing == self._policy.routing:
            self._policy = policy
            return False
        senders = self._sender_pool(policy)
        self._policy = policy
        self._throttle.hold(held=True)
        await self._senders.wait(HAND_OVER_S)
        before = self._senders
        self._metrics.gone(set(self._throttle) - routing.all_receivers.keys())
        self._throttle = Throttle(routing.all_receivers)
        self._senders = senders
        for notifier in [*self._notifiers.values()]:  # partitions may move meanwhile
            await notifier.submit(RoutingChanged())
        await before.aclose()
        return True

    async def look(self) -> None:
        """Measure how far behind this process is, and show that it lives."""
        if self._notifiers:
            self._time.ask_when_due(min(self._notifiers))
        now_ms = self._brokers.now_ms()
        parts = {
            number: notifier.pipeline for number, notifier in self._notifiers.items() if notifier.pipeline is not None
        }
        pending = [pipeline.pending(now_ms) for pipeline in parts.values()]
        broken = {name: self._throttle[name].is_broken for name in self._throttle}
        waiting = sum(each.waiting for each in self._notifiers.values())
        self._metrics.backlog({name: [one[name] for one in pending if name in one] for name in broken}, broken, waiting)
        self._metrics.partitions.set(len(parts))
        for number, pipeline in parts.items():
            self._count_dropped(number, pipeline)
        await self._compare_policies(now_ms)
        await self._tell_unreachable(pending, now_ms)
        try:
            lag, cut = await self._lag.measure(self.app.consumer, self._notifiers)
        except TopicTruncated as error:
            self._fatal(error)
        except LogMissing as error:
            self._wait_for_log(str(error))
            return
        self.waits_for = None
        for number in cut:
            await self._write_again(number)
        for number, behind in lag.items():
            self._metrics.lag.labels(number).set(behind)
        notifiers = self._notifiers.values()
        if self._progress.is_made(
            lag, sum(each.waiting for each in notifiers), sum(each.handled for each in notifiers)
        ):
            self._alive()

    def _wait_for_log(self, why: str) -> None:
        """Nothing can be written down, and so nothing sent. A process that ended would forget what is still to be sent;
        as no beat leaves either, the monitor outside calls.
        """
        if self.waits_for is None:
            log.error("nobody is notified, and what is to be sent is kept in memory", extra=fields(error=why))
        self.waits_for = why
        self._alive()

    async def _write_again(self, number: int) -> None:
        """What deliveries.v1 has lost of a partition is in memory still."""
        log.error("deliveries.v1 has lost records; what is known is written again", extra=fields(partition=number))
        await self._notifiers[number].submit(LogLost())
        await self._notifiers[number].submit(
            deliveries_lost_alert(number, None, self._brokers.now_ms(), self._policy.version)
        )

    async def _compare_policies(self, now_ms: int) -> None:
        ours = self._policy.version
        differing = self._policy_watch.differing(ours, now_ms)
        self._metrics.policies_differ.set(len(differing))
        for number in differing.keys() & self._notifiers.keys():
            if (alert := self._policy_watch.news(number, differing[number], ours, now_ms)) is not None:
                log.warning("worker and alerting differ", extra=fields(partition=number, **alert.evidence))
                await self._notifiers[number].submit(alert)

    async def _tell_unreachable(self, pending: Iterable[Mapping[str, Pending]], now_ms: int) -> None:
        """Say which receivers take nothing: by whoever owns the first partition, so that one process does."""
        if (notifier := self._notifiers.get(FIRST_PARTITION)) is None:
            return
        for name in [*self._throttle]:
            there = [one[name] for one in pending if name in one]
            alert = self._receiver_watch.news(
                name, self._throttle[name], sum(one.count for one in there), sum(one.overdue_pages for one in there),
                partition=FIRST_PARTITION, now_ms=now_ms, policy_version=self._policy.version,
            )  # fmt: skip
            if alert is not None:
                log.warning("news of a receiver", extra=fields(state=alert.state, **alert.evidence))
                await notifier.submit(alert)

    async def hand_over(self) -> None:
        """Let go of all partitions: begin nothing new, wait for what is in flight, record how far it came."""
        for task in self._reviewing:
            task.cancel()
        self._reviewing.clear()
        self._throttle.hold(held=True)
        await self._senders.wait(HAND_OVER_S)
        for notifier in [*self._notifiers.values()]:  # partitions may move meanwhile
            await notifier.finish()
        if self._working:
            await asyncio.wait(self._working.values(), timeout=HAND_OVER_S)
        for task in self._working.values():
            task.cancel()
        self._notifiers.clear()
        self._working.clear()
        self._policy_watch.forget()
        self._receiver_watch.forget()
        self._metrics.lag.clear()
        self._metrics.set_aside.clear()
        self._metrics.topics_differ.set(0)

    async def aclose(self) -> None:
        """Let go of the senders."""
        await self._senders.aclose()

    def _sender_pool(self, policy: Policy) -> SenderPool:
        """What sends as a policy says. Raises `SettingsError`: a secret that it names is missing."""
        senders = open_senders(policy.routing, self._settings)
        return SenderPool(senders, self._metrics, self._crash, self._brokers, self._traces)

    def _make_app(self) -> faust.App:
        app = committed_app(self._settings)
        app.on_partitions_assigned.connect(self._assigned, weak=False)  # type: ignore[arg-type]
        app.on_partitions_revoked.connect(self._revoked, weak=False)  # type: ignore[arg-type]

        @app.agent(app.raw_topic(self._alerts), name="alerts", concurrency=1)
        async def read_alerts(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._receive(event, self._alert)

        @app.agent(app.raw_topic(self._orders), name="orders", concurrency=1)
        async def read_orders(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._receive(event, self._order)

        return app

    async def _receive(self, event: EventT[bytes], read: Callable[[EventT[bytes]], Stimulus | None]) -> None:
        """Submit a record to its partition's notifier. One that cannot be read is reported and left behind."""
        notifier = self._notifiers.get(event.message.partition)
        if notifier is None:
            log.info("a record of a partition that has gone elsewhere", extra=fields(partition=event.message.partition))
            return
        try:
            stimulus = read(event)
        except Undecodable as error:
            stimulus = self._unreadable(event, error)
        except Exception as error:
            self._fatal(error)
        if stimulus is None:
            self._acknowledge(event)
            return
        self._crash("taken")
        await notifier.submit(stimulus, partial(self._done, event))

    def _alert(self, event: EventT[bytes]) -> Stimulus | None:
        alert = decode_alert(event.value)
        self._metrics.alert_read(alert)
        self._traces.read(alert)
        if alert.detector == WATCHDOG:
            number, now_ms = event.message.partition, self._brokers.now_ms()
            self._policy_watch.beat(number, alert, self._policy.version, now_ms)
        return alert

    def _unreadable(self, event: EventT[bytes], fault: Undecodable) -> Stimulus | None:
        """What is done in place of a record that cannot be read: an alert may have been for somebody."""
        message = event.message
        self._metrics.unreadable.labels(message.topic).inc()
        log.error("a record cannot be read", extra=fields(**_where(event), reason=fault.reason, detail=fault.detail))
        if message.topic != self._alerts:
            return None
        now_ms = self._brokers.now_ms()
        return unreadable_alert(message.partition, message.offset, fault.reason, now_ms, self._policy.version)

    def _order(self, event: EventT[bytes]) -> Stimulus | None:
        """An operator's message; None for one that nobody may obey."""
        headers = list(dict(event.headers or {}).items())
        try:
            message = self._order_reader.read(event.value, headers, int(event.message.timestamp * 1000))
        except Undecodable as fault:
            if fault.reason not in REFUSED_ORDERS:
                raise
            self._metrics.refused.inc()
            log.error("an order was refused", extra=fields(reason=fault.reason, detail=fault.detail, **_where(event)))
            return None
        self._metrics.orders.inc()
        return message

    def _done(self, event: EventT[bytes]) -> None:
        """The broker has all that follows from a record."""
        self._crash("handled")
        self._acknowledge(event)

    def _acknowledge(self, event: EventT[bytes]) -> None:
        """Let its offset be committed, unless it belongs to an earlier assignment."""
        if event.message.generation_id == self.app.consumer_generation_id:
            event.ack()

    async def _assigned(self, _app: Any, assigned: Iterable[TP], **_: Any) -> None:
        numbers, of_orders = (
            sorted(tp.partition for tp in assigned if tp.topic == topic) for topic in (self._alerts, self._orders)
        )
        if numbers != of_orders:
            said = f"alerts of {numbers} were assigned, but orders of {of_orders}: python -m streams topics check"
            self._fatal(AssignmentError(said))
        if numbers:
            self._asking = asyncio.create_task(asyncio.to_thread(self._time.ask, numbers[0]))
        self._throttle.hold(held=False)
        for number in numbers:
            notifier = Notifier(
                partial(self._restore, number), partial(self._publish, number), self._send, self._brokers
            )
            self._notifiers[number] = notifier
            self._working[number] = asyncio.create_task(self._guarded(notifier.run()))
        if FIRST_PARTITION in self._notifiers:
            first = self._notifiers[FIRST_PARTITION]
            reviews = WeeklyReviews(self._settings, lambda: self._policy, first, self._outcome, self._brokers)
            topics = TopicsWatch(self._settings, lambda: self._policy, first, self._metrics, self._brokers)
            self._reviewing = [asyncio.create_task(self._guarded(each.run())) for each in (reviews, topics)]
        log.info("partitions assigned", extra=fields(partitions=numbers))

    async def _revoked(self, _app: Any, _revoked: Iterable[TP], **_: Any) -> None:
        self._crash("revoked")
        await self.hand_over()

    async def _restore(self, number: int) -> Pipeline:
        rows = await self._rows(number)
        if self._asking is not None:
            await self._asking  # before anything is judged by this host's clock
        self._crash("restoring")
        deliveries = DeliveryLog.read((key.decode(errors="replace"), value) for key, value in rows.items())
        log.info("deliveries restored", extra=fields(partition=number, entries=len(rows)))
        self._metrics.set_aside.labels(number).set(len(deliveries.unreadable))
        if deliveries.unreadable:
            self._page_set_aside(number, deliveries.unreadable)
        if not rows:
            await self._page_lost(number)
        return Pipeline(self._policy.routing, deliveries, self._throttle)

    def _page_set_aside(self, number: int, unreadable: Mapping[str, str]) -> None:
        """Say what of the log cannot be read, once for the same entries, the way every alert goes."""
        about = fields(partition=number, entries=len(unreadable), keys=sorted(unreadable)[:MOST_NAMED])
        log.error("entries of the log of deliveries were set aside", extra=about)
        self._page(number, set_aside_alert(number, unreadable, self._brokers.now_ms(), self._policy.version))

    async def _page_lost(self, number: int) -> None:
        """Say that the log is gone, if there was one: each alert that somebody was to hear of leaves an entry."""
        now_ms = self._brokers.now_ms()
        try:
            # Of half the time for which entries are kept, so that none of them was forgotten in order.
            count = await asyncio.to_thread(alerts_read, self._settings, number, now_ms - KEEP_CLOSED_MS // 2)
        except (BrokerError, KafkaException) as error:
            log.warning("whether deliveries.v1 has lost records is not known", extra=fields(error=str(error)))
            return
        if count:
            log.error("deliveries.v1 has lost its records", extra=fields(partition=number, alerts=count))
            self._page(number, deliveries_lost_alert(number, count, now_ms, self._policy.version))

    def _page(self, number: int, page: Alert) -> None:
        """Hand an alert to a notifier that has yet to begin."""
        paging = asyncio.create_task(self._notifiers[number].submit(page))
        self._paging.add(paging)
        paging.add_done_callback(self._paging.discard)

    async def _rows(self, number: int) -> Rows:
        """The partition's log. A broker that does not answer is asked again, and the watchdog has the last word."""
        reader = StateReader(self._settings, self._alive, "deliveries.v1")
        while True:
            try:
                return (await asyncio.to_thread(reader.read, [number]))[number]
            except (KafkaException, ChangelogStalled) as error:
                log.warning("the log of deliveries is not read back yet", extra=fields(error=str(error)))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _publish(self, number: int, record: Record) -> Awaitable[Any]:
        self._crash("publishing")
        self.heartbeat.check()  # whoever owns the partition by now has written what became of it
        publishing: Awaitable[Any] = await self.app.producer.send(
            self._deliveries, record.key.encode(), record.value, number, timestamp=None, headers=None
        )
        return self._published(publishing)

    async def _published(self, publishing: Awaitable[Any]) -> None:
        await publishing
        self._crash("published")

    def _send(self, send: Send, notifier: Notifier) -> None:
        self.heartbeat.check()
        self._senders.send(send, notifier)

    async def _outcome(self, send: Send) -> Sent | Failed:
        return await self._senders.outcome(send)

    def _count_dropped(self, number: int, pipeline: Pipeline) -> None:
        for receiver, count in pipeline.dropped.items():
            self._metrics.dropped.labels(receiver).inc(max(0, count - self._dropped.get((number, receiver), 0)))
            self._dropped[number, receiver] = count

    def _alive(self) -> None:
        self.progress_ms = clock.monotonic_ms()

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            if self.app.crash_reason is None:  # else the process ends already, with a better reason than this
                self._fatal(error)

    def _stood_still(self, silent_ms: int) -> None:
        self._fatal(StoodStill(f"this process stood still for {silent_ms} ms: others answer for its partitions by now"))

    def _fatal(self, error: Exception) -> NoReturn:
        """End at once, so that nothing is acknowledged that was not dealt with. A restart goes on from the log."""
        log.critical("alerting cannot go on; the process ends", exc_info=error)
        logging.shutdown()
        os._exit(error.exit_code if isinstance(error, SpendfuseError) else FAULT_OF_OURS)


def _where(event: EventT[bytes]) -> dict[str, object]:
    message = event.message
    return {"topic": message.topic, "partition": message.partition, "offset": message.offset}
