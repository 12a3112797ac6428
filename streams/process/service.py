"""What every process of the service begins and ends with: settings, logs, its slot, its metrics page, its watchdog."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

from streams.clock import monotonic_ms
from streams.process.broker_watch import BrokerWatch
from streams.process.logs import fields, start_logging
from streams.process.pages import HealthCheck, pages
from streams.process.slots import Role, claim_slot
from streams.process.watchdog import END_SIGNALS, GRACE_S, GracePeriod, Watchdog
from streams.settings import Settings, read_settings, unknown_variables

log = logging.getLogger("spendfuse")


class ServiceMetrics(Protocol):
    """What the numbers of every process have."""

    registry: CollectorRegistry
    broker_away_seconds: Gauge


@contextmanager
def claimed_settings(role: Role) -> Iterator[Settings]:
    """The settings of a process that runs in this role, its slot claimed until the end of the block; logs are on.

    Told to end while it starts, which may wait for a broker, the process leaves in order and with 0: before its pages
    say anything. `when_told_to_end` is for when it is at work. In either case it has a grace period for that.
    """
    settings = read_settings()
    start_logging(settings.log_level)
    if unknown := unknown_variables():
        log.warning("these variables are no settings", extra=fields(names=unknown))
    slot = claim_slot(settings, role)
    before = {number: signal.signal(number, lambda *_: sys.exit(0)) for number in END_SIGNALS}
    try:
        with GracePeriod(GRACE_S):
            yield settings.model_copy(update={"slot": slot.name})
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        slot.release()


@contextmanager
def watched(
    settings: Settings,
    metrics: ServiceMetrics,
    broker: BrokerWatch,
    last_beat_ms: Callable[[], int],
    more: HealthCheck,
) -> Iterator[None]:
    """Within the block the process serves its metrics and its health, watches the broker, and ends if its loop stands
    still.

    Args:
        settings: say on which port, and for how long a loop may stand still.
        metrics: the numbers to serve.
        broker: what watches the broker.
        last_beat_ms: when the loop last showed that it moves, on the monotonic clock.
        more: a further health check, for a loop that moves.
    """
    metrics.broker_away_seconds.set_function(lambda: broker.away_s)

    def beat_ms() -> int:
        return max(last_beat_ms(), broker.last_away_ms)  # who waits for the broker does not stand still

    def healthy() -> str | None:
        silent_s = (monotonic_ms() - beat_ms()) // 1000
        if broker.away_s > settings.unhealthy_s:
            return f"no broker has answered for {broker.away_s:.0f} s; it is waited for"
        if silent_s > settings.unhealthy_s:
            return f"the loop has not moved for {silent_s} s"
        return more()

    with broker, pages(settings, metrics.registry, healthy), Watchdog(beat_ms, settings.stall_limit_s * 1000):
        yield
