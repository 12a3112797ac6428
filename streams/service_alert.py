"""Alerts about Spendfuse itself, from where no engine decides: they go the way of every alert, as nobody's spend."""

from typing import Any, Final

from schemas.alert import WATCHDOG, Alert

TENANT = "spendfuse"
"""Whose alerts they are."""
UNREADABLE_DELIVERIES: Final = "unreadable-deliveries"
POLICIES_DIFFER: Final = "policies-differ"
UNREADABLE_FLOOD: Final = "unreadable-flood"
RULES: Final = frozenset({WATCHDOG, UNREADABLE_DELIVERIES, POLICIES_DIFFER, UNREADABLE_FLOOD})
"""Names of the rules that such alerts are of."""


def service_alert(rule: str, partition: int, ts_ms: int, policy_version: str, **told: Any) -> Alert:
    """An alert of `rule` about one partition. `told` is what it says: ids, severity, level, value, unit, evidence,
    summary and next action, and a window where it has one.
    """
    window = {"window_start_ms": None, "window_end_ms": None}
    return Alert(
        state="open",
        mode="alert",
        rule=rule,
        detector=rule,
        tenant_id=TENANT,
        scope={"tenant_id": TENANT, "partition": str(partition)},
        run_id=None,
        owner=None,
        limit=None,
        baseline=None,
        ratio=None,
        ts_ms=ts_ms,
        cause_event_id=None,
        policy_version=policy_version,
        **window | told,
    )
