"""alerts.v1: one message about one incident."""

from typing import Any, Literal

import msgspec

from schemas.policy import Action, Mode, Severity

AlertState = Literal["open", "escalated", "resolved", "reminder"]
PAGING: frozenset[Severity] = frozenset({"critical", "error"})
"""Severities that page somebody."""
WATCHDOG = "watchdog"
"""The detector of heartbeats: sent at once or not at all, and only to receivers whose routes name it."""
RECEIVER_UNREACHABLE = "receiver-unreachable"
"""The detector of alerts about a receiver that takes nothing, named in their evidence: others are to know."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, to whom, and what was done. Money is in nano-dollars where `unit` is `nanousd`."""

    alert_id: str
    incident_id: str
    state: AlertState
    severity: Severity
    mode: Mode
    rule: str
    detector: str
    tenant_id: str
    scope: dict[str, str]
    run_id: str | None
    owner: str | None
    level: float
    window_start_ms: int | None
    window_end_ms: int | None
    value: int | float
    limit: int | float | None
    baseline: int | float | None
    ratio: float | None
    unit: str
    evidence: dict[str, Any]
    summary: str
    next_action: str
    ts_ms: int
    cause_event_id: str | None
    policy_version: str
    owners: list[str] = []
    """All owners of what a shared budget spent, the largest first, where nobody spent half or more; `owner` is null."""
    attribution: dict[str, str] = {}
    """What is known of whose spend it is: workflow, environment, project and so on; nothing for a scope."""
    command: Action | None = None
    """The command that stands on its run, if any: a run that is killed already need not warn."""
