"""Labels of an alert, and what they match: routes, silences, inhibition and planned windows ask the same way."""

from collections.abc import Mapping

from schemas.alert import Alert
from schemas.routing import LabelMatcher


def labels(alert: Alert) -> dict[str, str]:
    """What of an alert can be matched: its scope, whose spend it is, and what it says of itself."""
    found = {
        **alert.attribution,
        **alert.scope,
        "severity": alert.severity,
        "rule": alert.rule,
        "detector": alert.detector,
        "tenant_id": alert.tenant_id,
        "incident_id": alert.incident_id,
        "state": alert.state,
        "mode": alert.mode,
    }
    if alert.owner is not None:
        found["owner"] = alert.owner
    if alert.run_id is not None:
        found["run_id"] = alert.run_id
    return found


def matches(matcher: LabelMatcher | Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether every label the matcher names has one of its values."""
    return mismatch(matcher, found) is None


def mismatch(matcher: LabelMatcher | Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """Why the labels do not match, in words; None if they do."""
    for name, wanted in matcher.items():
        value = found.get(name)
        if value not in ([wanted] if isinstance(wanted, str) else wanted):
            return f"it has no {name}" if value is None else f"{name} is {value!r}"
    return None
