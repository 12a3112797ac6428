"""Sending messages: one task each, whose outcome is submitted to the notifier that asked for it."""

import asyncio
import logging
from collections.abc import Mapping

from alerting.effects import Failed, Send, Sent
from alerting.errors import SendError
from alerting.notice import Notice
from alerting.receivers.base import Sender
from streams.clock import BrokerClock
from streams.notifier.metrics import NotifierMetrics
from streams.notifier.notifier import Notifier
from streams.process.crash_points import CrashPoints
from streams.process.logs import fields
from streams.tracing.telling import TellingTraces

log = logging.getLogger("spendfuse.alerting")
LONGEST_SEND_S = 60.0
"""Senders have limits of their own; this one only makes sure that every message has an outcome."""


class SenderPool:
    """All senders of a process, and the messages in flight."""

    def __init__(
        self,
        senders: Mapping[str, Sender],
        metrics: NotifierMetrics,
        crash: CrashPoints,
        brokers: BrokerClock | None = None,
        traces: TellingTraces | None = None,
    ) -> None:
        self._senders = senders
        self._brokers = brokers or BrokerClock()
        self._traces = traces or TellingTraces(None, self._brokers)
        self._metrics = metrics
        self._crash = crash
        self._in_flight: set[asyncio.Task[None]] = set()

    def send(self, send: Send, notifier: Notifier) -> None:
        """Begin to send a message."""
        task = asyncio.create_task(self._send(send, notifier))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def wait(self, patience_s: float) -> None:
        """Wait for messages in flight, at most so long."""
        if self._in_flight:
            await asyncio.wait(set(self._in_flight), timeout=patience_s)

    async def aclose(self) -> None:
        """Give up what is in flight, and let go of connections and threads."""
        for task in self._in_flight:
            task.cancel()
        await asyncio.gather(*(sender.aclose() for sender in self._senders.values()), return_exceptions=True)

    async def outcome(self, send: Send) -> Sent | Failed:
        """Send a message, and wait for its outcome."""
        outcome = await self._attempt(send)
        try:
            self._report(send, outcome)
        except Exception:  # what is only told to machines must not cost the outcome, or it would be sent again
            log.exception("an outcome could not be reported", extra=fields(receiver=send.receiver))
        return outcome

    async def _send(self, send: Send, notifier: Notifier) -> None:
        self._crash("sending")
        outcome = await self.outcome(send)
        self._crash("answered")
        await notifier.submit(outcome)

    async def _attempt(self, send: Send) -> Sent | Failed:
        try:
            async with asyncio.timeout(LONGEST_SEND_S):
                receipt = await self._senders[send.receiver].send(send.delivery_id, send.notice)
        except SendError as error:
            failure = error
        except TimeoutError:
            failure = SendError("timeout", "no outcome in time", retryable=True, ambiguous=True)
        except Exception as error:  # a fault of ours or of a client: it must not cost the message
            log.exception("a sender failed", extra=fields(receiver=send.receiver, delivery_id=send.delivery_id))
            failure = SendError("unknown", type(error).__name__, retryable=True, ambiguous=True)
        else:
            return Sent(send.delivery_id, receipt, self._brokers.now_ms())
        return Failed(
            send.delivery_id,
            failure.reason,
            retryable=failure.retryable,
            ambiguous=failure.ambiguous,
            retry_after_ms=failure.retry_after_ms,
            at_ms=self._brokers.now_ms(),
            detail=failure.detail,
        )

    def _report(self, send: Send, outcome: Sent | Failed) -> None:
        self._traces.answered(send, outcome)
        about = {
            "receiver": send.receiver,
            "delivery_id": send.delivery_id,
            "attempt": send.attempt,
            **_about(send.notice),
        }
        if isinstance(outcome, Sent):
            self._metrics.message_sent(send, outcome)
            log.info("sent", extra=fields(**about))
        else:
            self._metrics.message_failed(send, outcome)
            why = {"reason": outcome.reason, "detail": outcome.detail, "ambiguous": outcome.ambiguous}
            log.warning("not sent", extra=fields(**about, **why))


def _about(notice: Notice) -> dict[str, object]:
    """What a message was about, for the log."""
    if notice.ready is not None:
        return {notice.kind: notice.ready.subject}
    alert = notice.alert
    return {
        "cause": alert.cause_event_id,
        "incident_id": alert.incident_id,
        "state": alert.state,
        "severity": alert.severity,
        "alerts": len(notice.alerts) + notice.more,
    }
