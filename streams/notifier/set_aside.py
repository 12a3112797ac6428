"""The page about entries of deliveries.v1 that cannot be read and were set aside."""

from collections.abc import Mapping

from models.identity import derived_id
from schemas.alert import Alert
from streams.service_alert import TENANT, service_alert

RULE = "unreadable-deliveries"
MOST_NAMED = 5


def set_aside_alert(partition: int, unreadable: Mapping[str, str], at_ms: int, policy_version: str) -> Alert:
    """One for all entries of a partition. The same entries make the same alert, which is sent once.

    Args:
        partition: of deliveries.v1.
        unreadable: key and reason of each.
        at_ms: now.
        policy_version: of the policy in force.
    """
    incident_id = derived_id(TENANT, RULE, partition, *sorted(unreadable))
    count = len(unreadable)
    return service_alert(
        RULE,
        partition,
        at_ms,
        policy_version,
        alert_id=derived_id(incident_id, "open"),
        incident_id=incident_id,
        severity="critical",
        level=1.0,
        value=count,
        unit="records",
        evidence={"records": count, "keys": sorted(unreadable)[:MOST_NAMED]},
        summary=f"{count} records of deliveries.v1, partition {partition}, cannot be read and were set aside: "
        "what they said of alerts to be sent is unknown.",
        next_action="Look whether somebody was to be told: python -m streams deliveries check. "
        "Then take them out: python -m streams deliveries repair --save FILE",
    )
