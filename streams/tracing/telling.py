"""Alerting's part: from the reading of an alert until each receiver has taken it, attempt by attempt."""

from collections.abc import Iterator
from typing import Final

from alerting.effects import Failed, Send, Sent
from schemas.alert import Alert
from streams.clock import BrokerClock
from streams.tracing.decisions import about_alert
from streams.tracing.remembered import Newest
from streams.tracing.span import Span, Tracer

MOST_READ: Final = 10_000


class TellingTraces:
    """Tells a tracer who was told of a cause, and when."""

    def __init__(self, tracer: Tracer | None, brokers: BrokerClock) -> None:
        self._tracer = tracer
        self._brokers = brokers
        self._read_ms: Newest[int] = Newest(MOST_READ)

    def read(self, alert: Alert) -> None:
        """An alert was read."""
        if self._tracer is not None:
            self._read_ms.add(alert.alert_id, self._brokers.now_ms())

    def answered(self, send: Send, outcome: Sent | Failed) -> None:
        """A receiver has answered, or has not."""
        if self._tracer is not None:
            self._tracer.record(self.spans(send, outcome))

    def spans(self, send: Send, outcome: Sent | Failed) -> Iterator[Span]:
        """One of each alert in the message that has a cause; what was read before a restart begins with its cause."""
        for alert in send.notice.alerts:
            if alert.cause_event_id is None:
                continue
            read_ms = self._read_ms.get(alert.alert_id) or alert.ts_ms
            about = about_alert(alert) | {"spendfuse.receiver": send.receiver, "spendfuse.attempt": send.attempt}
            yield Span(
                alert.tenant_id, alert.cause_event_id, "alerting tells",
                f"told/{alert.alert_id}/{send.receiver}/{send.attempt}", read_ms, outcome.at_ms, about,
                outcome.reason if isinstance(outcome, Failed) else None,
            )  # fmt: skip
