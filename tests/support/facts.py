"""Commands and alerts about run r1 of acme, as the worker publishes them."""

from typing import Any

from schemas.alert import Alert
from schemas.codec import encode
from schemas.control import Command, Target
from schemas.duration import HOUR_MS
from schemas.signing import control_key
from tests.support.kafka import Record, produce

NOW_MS = 1_795_392_000_000
RUN = Target("run", "r1")


def command(action: str = "kill", target: Target = RUN, **fields: Any) -> Command:
    """A command of the engine to run r1, an hour old and good for another."""
    given: dict[str, Any] = {
        "command_id": "c1", "action": action, "tenant_id": "acme", "target": target, "reason": "It spent $5.01.",
        "rule": "run-cost", "incident_id": "i1", "issued_ms": NOW_MS - HOUR_MS, "expires_ms": NOW_MS + HOUR_MS,
        "seq": 1, "cause_event_id": None, "cause_ts_ms": NOW_MS - HOUR_MS,
    }  # fmt: skip
    return Command(**(given | fields))


def alert(incident_id: str = "i1", **fields: Any) -> Alert:
    """The newest alert of an incident of run r1."""
    given: dict[str, Any] = {
        "alert_id": f"a-{incident_id}", "incident_id": incident_id, "state": "open", "severity": "critical",
        "mode": "enforce", "rule": "run-cost", "detector": "cap", "tenant_id": "acme", "scope": {}, "run_id": "r1",
        "owner": None, "level": 1.0, "window_start_ms": None, "window_end_ms": None, "value": 5_010_000_000,
        "limit": 5_000_000_000, "baseline": None, "ratio": None, "unit": "nanousd", "evidence": {},
        "summary": "Run r1 has spent $5.01.", "next_action": "", "ts_ms": NOW_MS, "cause_event_id": None,
        "policy_version": "v1",
    }  # fmt: skip
    return Alert(**(given | fields))


def put(bootstrap: str, topic: str, *values: Command | Alert, key: str | None = None) -> None:
    """Write to a topic as the worker does."""
    records = [Record(encode(each), (key or key_of(each)).encode(), (), NOW_MS, 0) for each in values]
    produce(bootstrap, topic, records)


def key_of(value: Command | Alert) -> str:
    """The key of its record."""
    if isinstance(value, Alert):
        return value.tenant_id
    return control_key(value.tenant_id, value.target.type, value.target.id)
