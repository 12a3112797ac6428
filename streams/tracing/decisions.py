"""The worker's part: from the append of the cause over the decision to the commit, and until a guard has obeyed."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from models.effects import Effect
from schemas.alert import Alert
from schemas.control import Command
from schemas.internal.spend import ALL_TENANTS
from streams.clock import BrokerClock, seconds
from streams.tracing.remembered import Newest
from streams.tracing.span import ROOT, Span, Tracer

MOST_AWAITED: Final = 10_000
"""Commands whose answer may still come: of an older one it is not told."""


class _Given(NamedTuple):
    tenant_id: str
    cause: str
    cause_ms: int
    committed_ms: float


class Batch(NamedTuple):
    """When a batch was begun, its transaction, and when that was committed, in epoch milliseconds."""

    begun_ms: float
    commit_ms: float
    committed_ms: float


class DecisionTraces:
    """Tells a tracer what each commit has made of its causes. Events that cause nothing cost nothing here."""

    def __init__(self, tracer: Tracer | None, brokers: BrokerClock) -> None:
        self._tracer = tracer
        self._brokers = brokers
        self._awaited: Newest[_Given] = Newest(MOST_AWAITED)

    def committed(self, effects: Iterable[Effect], begun_s: float, commit_s: float) -> None:
        """A batch begun at one reading of `seconds`, and its transaction at another, was committed just now."""
        if self._tracer is None:
            return
        now_ms, now_s = self._brokers.now_ms(), seconds()
        batch = Batch(now_ms - (now_s - begun_s) * 1000, now_ms - (now_s - commit_s) * 1000, now_ms)
        self._tracer.record(self.spans(effects, batch))

    def spans(self, effects: Iterable[Effect], batch: Batch) -> Iterator[Span]:
        """Four of each cause, in the order of what happened, and one of each alert and command."""
        begun: set[tuple[str, str]] = set()
        for effect in effects:
            value = effect.value
            if not isinstance(value, Alert | Command):
                continue
            if isinstance(value, Alert):
                yield from self._obeyed(value)
            cause = value.cause_event_id
            if cause is None:
                continue
            if (value.tenant_id, cause) not in begun:
                begun.add((value.tenant_id, cause))
                yield from _decision(value, cause, batch)
            yield _effect(value, cause, batch)
            if isinstance(value, Command):
                given = _Given(value.tenant_id, cause, value.cause_ts_ms, batch.committed_ms)
                self._awaited.add(value.command_id, given)

    def _obeyed(self, alert: Alert) -> Iterator[Span]:
        """A guard's answer, which an alert tells: it belongs to the trace of the command's cause, not of its own."""
        took_ms: Any = alert.evidence.get("cause_to_stop_ms")
        command_id = str(alert.evidence.get("command_id"))
        given = self._awaited.pop(command_id) if isinstance(took_ms, int) else None
        if given is not None:
            since_ms = given.committed_ms
            about = {"spendfuse.command_id": command_id, "spendfuse.cause_to_stop_ms": took_ms}
            ends_ms = max(since_ms, given.cause_ms + took_ms)
            yield Span(given.tenant_id, given.cause, "guard obeys", f"obeyed/{command_id}", since_ms, ends_ms, about)


def _decision(value: Alert | Command, cause: str, batch: Batch) -> Iterator[Span]:
    cause_ms = value.ts_ms if isinstance(value, Alert) else value.cause_ts_ms
    since_ms = min(cause_ms, batch.committed_ms)
    begun_ms = max(since_ms, batch.begun_ms)
    # What all tenants together have spent was caused by an event of one of them, and others see that trace.
    is_one_tenants = value.tenant_id != ALL_TENANTS
    about: dict[str, str | int] = {"spendfuse.tenant_id": value.tenant_id}
    about |= {"spendfuse.cause_event_id": cause} if is_one_tenants else {}
    stretches = (
        ("cause", ROOT, since_ms, batch.committed_ms),
        ("worker reads", "read", since_ms, begun_ms),
        ("worker decides", "decided", begun_ms, batch.commit_ms),
        ("worker commits", "committed", batch.commit_ms, batch.committed_ms),
    )
    for name, part, start_ms, end_ms in stretches:
        yield Span(value.tenant_id, cause, name, part, start_ms, max(start_ms, end_ms), about)


def _effect(value: Alert | Command, cause: str, batch: Batch) -> Span:
    if isinstance(value, Alert):
        return Span(
            value.tenant_id, cause, f"alert {value.state}", f"alert/{value.alert_id}", batch.commit_ms,
            batch.committed_ms, about_alert(value),
        )  # fmt: skip
    about: dict[str, str | int] = {
        "spendfuse.command_id": value.command_id,
        "spendfuse.incident_id": value.incident_id,
        "spendfuse.rule": value.rule,
        "spendfuse.target_type": value.target.type,
        "spendfuse.target_id": value.target.id,
    }
    return Span(
        value.tenant_id, cause, f"command {value.action}", f"command/{value.command_id}", batch.commit_ms,
        batch.committed_ms, about,
    )  # fmt: skip


def about_alert(alert: Alert) -> dict[str, str | int]:
    """What a span says of an alert: ids and names, no text."""
    about: dict[str, str | int] = {
        "spendfuse.alert_id": alert.alert_id,
        "spendfuse.incident_id": alert.incident_id,
        "spendfuse.rule": alert.rule,
        "spendfuse.severity": alert.severity,
    }
    return about | ({"spendfuse.run_id": alert.run_id} if alert.run_id else {})
