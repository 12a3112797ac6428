"""A world for the pipeline: virtual time, a log that survives, receivers that follow a script, and crashes anywhere."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from alerting.delivery.log import DeliveryLog
from alerting.effects import Effect, Failed, Record, Send, Sent, WaitUntil
from alerting.notice import Receipt
from alerting.pipeline import Pipeline
from schemas.alert import Alert, AlertState
from schemas.operator import OperatorMessage
from schemas.policy import Severity
from schemas.routing import parse_routing

NOON_MS = 1_795_348_800_000
"""A Sunday, 2026-11-22T12:00:00Z."""
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000

Answer = Mapping[str, Any] | None
"""None: said. Otherwise what `Failed` says; `arrived` tells that it was said all the same."""
Script = Callable[[Send, int], Answer]


def said(_send: Send, _now_ms: int) -> Answer:
    """A receiver that always answers."""
    return None


def refused(reason: str, *, retryable: bool = True, **more: Any) -> Answer:
    """What a receiver answers that does not say it."""
    return {"reason": reason, "retryable": retryable, "ambiguous": False, "retry_after_ms": None, **more}


class CrashError(Exception):
    """The process died."""


class World:
    """Performs what a pipeline asks for. `crash()` leaves nothing but the log."""

    def __init__(self, policy: Mapping[str, Any], script: Script = said, now_ms: int = NOON_MS) -> None:
        self.routing = parse_routing(policy)
        self.script = script
        self.now_ms = now_ms
        self.store: dict[str, bytes] = {}
        self.arrived: list[tuple[int, Send]] = []
        """What receivers said, and when."""
        self.asked: list[tuple[int, Send]] = []
        """Every request, answered or not."""
        self.crash_at: int | None = None
        """The effect before which the process dies, counted from now."""
        self._wait_ms: int | None = None
        self.pipeline = Pipeline(self.routing, DeliveryLog())

    def alert(self, alert: Alert) -> None:
        """Hand in an alert at its time."""
        self.until(max(alert.ts_ms, self.now_ms))
        self.perform(self.pipeline.alert(alert, self.now_ms))

    def operator(self, message: OperatorMessage) -> None:
        """Hand in an order."""
        self.perform(self.pipeline.operator(message, self.now_ms))

    def until(self, at_ms: int) -> None:
        """Let time pass, waking the pipeline when it asked for it."""
        while self._wait_ms is not None and self._wait_ms <= at_ms:
            assert self._wait_ms >= self.now_ms
            self.now_ms, self._wait_ms = self._wait_ms, None
            self.perform(self.pipeline.tick(self.now_ms))
        self.now_ms = max(self.now_ms, at_ms)

    def after(self, wait_ms: int) -> None:
        """Let so much time pass."""
        self.until(self.now_ms + wait_ms)

    def restart(self) -> None:
        """Drop everything but the log, and go on from it."""
        self.pipeline = Pipeline(self.routing, DeliveryLog.read(self.store.items()))
        self._wait_ms = None
        self.perform(self.pipeline.tick(self.now_ms))

    def lose_log(self) -> None:
        """Have the log deleted under a process that notices."""
        self.store.clear()
        self.perform(self.pipeline.log_lost())

    def messages(self, receiver: str = "console") -> list[Send]:
        """What a receiver has said."""
        return [send for _, send in self.arrived if send.receiver == receiver]

    def told(self, receiver: str = "console") -> list[tuple[str, str, float]]:
        """What a receiver has said: kind, state and level of each message."""
        return [
            (send.notice.kind, send.notice.alert.state, send.notice.alert.level) for send in self.messages(receiver)
        ]

    def perform(self, effects: list[Effect]) -> None:
        """Do what the pipeline asks for."""
        # First when to come back: what receivers answer, here at once, may ask for a sooner time.
        for effect in sorted(effects, key=lambda one: not isinstance(one, WaitUntil)):
            self._maybe_crash()
            match effect:
                case Record(key=key, value=None):
                    del self.store[key]
                case Record(key=key, value=bytes(value)):
                    self.store.pop(key, None)
                    self.store[key] = value
                case WaitUntil(at_ms=at_ms):
                    self._wait_ms = at_ms
                case Send():
                    self._send(effect)

    def _send(self, send: Send) -> None:
        self.asked.append((self.now_ms, send))
        answer = dict(self.script(send, self.now_ms) or {})
        if not answer or answer.pop("arrived", False):
            self.arrived.append((self.now_ms, send))
        self._maybe_crash()
        if answer:
            outcome = self.pipeline.failed(Failed(send.delivery_id, at_ms=self.now_ms, **answer))
        else:
            place = send.notice.first or Receipt({"message": str(len(self.arrived))})
            outcome = self.pipeline.sent(Sent(send.delivery_id, place, self.now_ms))
        self.perform(outcome)

    def _maybe_crash(self) -> None:
        if self.crash_at is None:
            return
        self.crash_at -= 1
        if self.crash_at < 0:
            self.crash_at = None
            raise CrashError


def alert(
    incident: str = "i", level: float = 1.0, *, state: AlertState = "open", at_ms: int = NOON_MS, **more: Any
) -> Alert:
    """An alert of a daily budget, whose level gives its severity."""
    severity: Severity = "critical" if level >= 1 else "warning" if level >= 0.8 else "info"
    base = Alert(
        alert_id=f"{incident}/{state}/{level}/{at_ms}",
        incident_id=incident,
        state=state,
        severity=severity,
        mode="enforce",
        rule="daily",
        detector="budget",
        tenant_id="acme",
        scope={"tenant_id": "acme", "project": incident},
        run_id=None,
        owner="ana",
        level=level,
        window_start_ms=NOON_MS - 12 * HOUR_MS,
        window_end_ms=NOON_MS + 12 * HOUR_MS,
        value=int(level * 100),
        limit=100,
        baseline=None,
        ratio=level,
        unit="nanousd",
        evidence={},
        summary=f"{incident} is at {level:.0%}",
        next_action="Look at it.",
        ts_ms=at_ms,
        cause_event_id=None,
        policy_version="1",
    )
    return replace(base, **more)
