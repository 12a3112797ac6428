"""Records of a week to review, with defaults that mean nothing, so that a test states only what it is about."""

from typing import Any

from alerting.review.compute import review_of
from alerting.review.facts import Records, Review, Terms
from alerting.review.week import Week, week_named
from schemas.control import Command, Target
from schemas.operator import Feedback, LimitException, Resume, Silence
from schemas.rollup import Rollup
from tests.support.messages import DAY_MS, HOUR_MS, USD
from tests.support.notices import alert

WEEK = week_named("2026-W48", "UTC")
"""The week under review, from 2026-11-23."""
BEFORE_MS = WEEK.start_ms - 7 * DAY_MS

_COUNTERS = (
    "cost_nanousd", "calls", "tool_calls", "retries", "errors", "input_tokens", "output_tokens", "unpriced_calls",
    "unpriced_tokens", "runs_started", "runs_finished", "accepted", "edited", "rejected", "escalated",
)  # fmt: skip


def hour(
    day: float, usd: float, tenant_id: str = "acme", workflow: str = "docs", *, at: int = 9, **counters: int
) -> Rollup:
    """The totals of one hour. `day` counts from the week's Monday; below 0 lies the week before."""
    start_ms = WEEK.start_ms + int(day * DAY_MS) + at * HOUR_MS
    return rollup(start_ms, tenant_id, workflow, cost_nanousd=round(usd * USD), **counters)


def rollup(start_ms: int, tenant_id: str = "acme", workflow: str = "docs", **counters: int) -> Rollup:
    """The totals of the hour that starts then."""
    counts: dict[str, Any] = {**dict.fromkeys(_COUNTERS, 0), **counters}
    return Rollup(
        tenant_id=tenant_id,
        workflow=workflow,
        hour_start_ms=start_ms,
        hour_end_ms=start_ms + HOUR_MS,
        ts_ms=start_ms + HOUR_MS,
        **counts,
    )


def incident(incident_id: str, *states: str, ts_ms: int = WEEK.start_ms, **fields: Any) -> list[Any]:
    """The alerts of an incident in these states, a minute apart."""
    evidence = fields.pop("evidence", {})
    return [
        alert(
            alert_id=f"{incident_id}-{number}", incident_id=incident_id, state=state, ts_ms=ts_ms + number * 60_000,
            evidence=evidence, **fields,
        )
        for number, state in enumerate(states)
    ]  # fmt: skip


def kill(command_id: str, issued_ms: int = WEEK.start_ms, run_id: str = "run-1", **fields: Any) -> Command:
    """A command, unless said otherwise to kill a run."""
    base: dict[str, Any] = {
        "action": "kill", "tenant_id": "acme", "target": Target("run", run_id), "reason": "", "rule": "run-cost",
        "incident_id": "incident-1", "expires_ms": issued_ms + DAY_MS, "seq": 1, "cause_event_id": None,
        "cause_ts_ms": issued_ms,
    }  # fmt: skip
    return Command(command_id=command_id, issued_ms=issued_ms, **{**base, **fields})


def feedback(incident_id: str, verdict: Any, ts_ms: int = WEEK.start_ms, **fields: Any) -> Feedback:
    """What somebody makes of an incident."""
    return Feedback(
        **_order(f"feedback-{incident_id}-{ts_ms}", ts_ms, fields), incident_id=incident_id, verdict=verdict
    )


def silence(ts_ms: int, until_ms: int, **fields: Any) -> Silence:
    """Nobody is told for a while."""
    match = fields.pop("match", {"rule": "run-cost"})
    return Silence(**_order(f"silence-{ts_ms}", ts_ms, fields), match=match, until_ms=until_ms)


def resume(run_id: str, ts_ms: int, **fields: Any) -> Resume:
    """A run may go on."""
    return Resume(**_order(f"resume-{ts_ms}", ts_ms, fields), target=Target("run", run_id))


def limit_exception(ts_ms: int, until_ms: int, **fields: Any) -> LimitException:
    """A budget raised by an operator."""
    limit = fields.pop("limit_nanousd", 300 * USD)
    own = {name: fields.pop(name, default) for name, default in (("rule", "tenant-hourly"), ("scope", "acme"))}
    return LimitException(
        **_order(f"exception-{ts_ms}-{limit}", ts_ms, fields), **own, limit_nanousd=limit, until_ms=until_ms
    )


def _order(message_id: str, ts_ms: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {"message_id": message_id, "ts_ms": ts_ms, "tenant_id": "acme", "who": "ana", "why": "a reason", **fields}


def reviewed(
    *rollups: Rollup,
    alerts: Any = (),
    commands: Any = (),
    orders: Any = (),
    terms: Terms = Terms(),  # noqa: B008 - frozen
    week: Week = WEEK,
    now_ms: int | None = None,
) -> Review:
    """The review of these records, made when the week is over unless said otherwise."""
    records = Records(rollups, alerts, commands, orders)
    return review_of(week, records, terms, week.end_ms if now_ms is None else now_ms)
