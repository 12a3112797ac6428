"""`python -m alerting` from start to end: settings, topics, policy, event loop, signals, and what watches over it."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from aiokafka.errors import CorruptRecordException

from models.rules.policy import Policy
from schemas.control import Target
from schemas.errors import SettingsError, StateError
from schemas.operator import OperatorMessage
from streams.clock import BrokerClock, wall_ms
from streams.kafka.admin import partition_count
from streams.kafka.order_writer import OrderWriter
from streams.notifier.app import LOOK_EVERY_S, NotifierApp
from streams.notifier.metrics import NotifierMetrics
from streams.notifier.slack_actions import ActionServer
from streams.process.broker_watch import BrokerWatch
from streams.process.crash_points import VARIABLE, CrashPoints
from streams.process.logs import fields
from streams.process.policies import Policies
from streams.process.service import claimed_settings, watched
from streams.process.watchdog import when_told_to_end
from streams.settings import Settings
from streams.tools.order import TopicFacts, check_key
from streams.tools.orders.verb import UnknownFactError
from streams.tracing.exporting import tracing
from streams.tracing.span import Tracer

log = logging.getLogger("spendfuse.alerting")

CO_PARTITIONED = ("alerts.v1", "operator.v1", "deliveries.v1")


def run_alerting() -> int:
    """Notify people until a signal ends it; returns the exit code. Raises `SpendfuseError` with what to do."""
    with claimed_settings("alerting") as settings:
        if not settings.operator_public_keys:
            log.warning("SPENDFUSE_OPERATOR_PUBLIC_KEY is not set: silences and acknowledgements are refused")
        partition_count(settings, needed=(*CO_PARTITIONED, "policy.v1"), alike=CO_PARTITIONED)
        metrics = NotifierMetrics()
        policies = Policies(settings, metrics.policy_faults)
        try:
            with tracing("alerting") as tracer:
                return asyncio.run(_run(settings, policies, metrics, tracer))
        finally:
            policies.close()


async def _run(settings: Settings, policies: Policies, metrics: NotifierMetrics, tracer: Tracer | None) -> int:
    policy = (await asyncio.to_thread(policies.first, wall_ms())).policy
    brokers = BrokerClock()
    notifier = NotifierApp(settings, policy, metrics, CrashPoints(os.environ.get(VARIABLE)), brokers, tracer)
    broker = BrokerWatch(settings)
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    when_told_to_end(lambda: loop.call_soon_threadsafe(end.set))
    log.info("alerting started", extra=fields(policy_version=policy.version, receivers=list(policy.routing.receivers)))
    try:
        with watched(settings, metrics, broker, lambda: notifier.progress_ms, lambda: _idle(notifier)):
            async with _buttons(settings, brokers):
                return await _serve(notifier, policies, broker, end)
    finally:
        log.info("alerting stopped")


def _buttons(settings: Settings, brokers: BrokerClock) -> AbstractAsyncContextManager[object]:
    """The endpoint for Slack's buttons, if the settings want one. It alone needs the right to give orders."""
    if not settings.actions_port:
        return nullcontext()

    async def stands(tenant_id: str, target: Target) -> bool:
        facts = TopicFacts(settings, brokers.now_ms())
        return await asyncio.to_thread(facts.active_command, tenant_id, target) is not None

    return ActionServer(settings, publishing(settings, brokers), stands, brokers)


def publishing(settings: Settings, brokers: BrokerClock) -> Callable[[OperatorMessage], Awaitable[None]]:
    """Writes orders by button, unless the workers say that they obey another key: whoever presses is to hear that."""
    writer = OrderWriter(settings, brokers)

    async def publish(order: OperatorMessage) -> None:
        facts = TopicFacts(settings, brokers.now_ms())
        try:
            check_key(settings, await asyncio.to_thread(facts.operator_keys))
        except UnknownFactError as unknown:
            log.warning("whether workers obey the key here is not known", extra=fields(error=str(unknown)))
        await writer.publish(order)

    return publish


async def _serve(notifier: NotifierApp, policies: Policies, broker: BrokerWatch, end: asyncio.Event) -> int:
    app = notifier.app
    heartbeat = asyncio.create_task(notifier.heartbeat.run())  # first: starting may take longer than the group waits
    await app.start()
    watching = asyncio.create_task(_watch(notifier, policies, broker))
    await app.wait_first(end.wait(), watching)
    watching.cancel()
    if app.crash_reason is None:
        await notifier.hand_over()
    await app.stop()
    await notifier.aclose()
    heartbeat.cancel()  # last: what is still recorded on the way out is recorded by a process that moves
    if app.crash_reason is None:
        return 0
    if isinstance(app.crash_reason, CorruptRecordException):
        raise StateError(
            f"a batch was not read as it was written: {app.crash_reason}. On the embedded broker, which breaks "
            "checksums, set SPENDFUSE_KAFKA_CHECK_CRCS=false; on any other, look at its disks and the way to it"
        )
    log.critical("alerting crashed", exc_info=app.crash_reason)
    return 1


async def _watch(notifier: NotifierApp, policies: Policies, broker: BrokerWatch) -> None:
    """Look every second whether all is well, and whether another policy is in force. A broker that is away is waited
    for, as long as it takes.
    """
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if broker.away_s:
            continue
        if (changed := policies.changed()) is not None:
            await _change(notifier, changed.policy)
        try:
            await notifier.look()
        except Exception as error:  # what cannot be measured is no sign of life: the watchdog ends it in time
            log.warning("the state of alerting could not be measured", extra=fields(error=repr(error)))


async def _change(notifier: NotifierApp, policy: Policy) -> None:
    try:
        if await notifier.change(policy):
            log.info("another routing is in force", extra=fields(policy_version=policy.version))
    except SettingsError as error:
        log.error("a policy cannot be used; the one before it stays", extra=fields(error=str(error)))


def _idle(notifier: NotifierApp) -> str | None:
    """What is wrong with a process that moves, but does nothing."""
    if notifier.waits_for is not None:
        return notifier.waits_for
    return None if notifier.partitions else "no partition of alerts.v1 is owned yet"
