"""Alerts about Spendfuse itself, from where no engine decides: they go the way of every alert, as nobody's spend."""

from collections.abc import Iterable
from typing import Any, Final

from models.identity import derived_id
from models.rules.policy import Policy
from models.rules.service_rules import SERVICE_RULES
from schemas.alert import RECEIVER_UNREACHABLE, WATCHDOG, Alert

TENANT = "spendfuse"
"""Whose alerts they are."""
UNREADABLE_ALERTS: Final = "unreadable-alerts"
UNREADABLE_DELIVERIES: Final = "unreadable-deliveries"
POLICIES_DIFFER: Final = "policies-differ"
UNREADABLE_FLOOD: Final = "unreadable-flood"
TOPICS_DIFFER: Final = "topics-differ"
DELIVERIES_LOST: Final = "deliveries-lost"
RULES: Final = frozenset({
    WATCHDOG, UNREADABLE_ALERTS, UNREADABLE_DELIVERIES, RECEIVER_UNREACHABLE, POLICIES_DIFFER, UNREADABLE_FLOOD,
    TOPICS_DIFFER, DELIVERIES_LOST,
})  # fmt: skip
"""Names of the rules that such alerts are of."""
IN_NO_POLICY: Final = SERVICE_RULES | RULES
"""Names of the rules that alerts may have whatever the policy says."""


def known_rules(policy: Policy) -> frozenset[str]:
    """Every name that the rule of an alert may have under a policy."""
    return IN_NO_POLICY.union(policy.rules)


def service_alert(
    rule: str,
    partition: int,
    ts_ms: int,
    policy_version: str,
    *,
    about: Iterable[str | int] = (),
    said: str | int = "open",
    **told: Any,
) -> Alert:
    """An alert of `rule` about one partition. The same rule, partition and `about` are one incident, and with the same
    `said` one alert, which is sent once. `told` is what it says: severity, level, value, unit, evidence, summary and
    next action, and a window where it has one.
    """
    incident_id = derived_id(TENANT, rule, partition, *about)
    window = {"window_start_ms": None, "window_end_ms": None}
    return Alert(
        alert_id=derived_id(incident_id, said),
        incident_id=incident_id,
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
