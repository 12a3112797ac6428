"""Incidents that have ended: nobody is reminded of one, and it inhibits nothing."""

from schemas.alert import Alert

KEEP_MS = 48 * 3_600_000
"""How long an end is remembered: far longer than the input is ever read again."""


class EndedIncidents:
    """When incidents ended that did not open again."""

    def __init__(self) -> None:
        self._at_ms: dict[str, int] = {}

    def observe(self, alert: Alert) -> None:
        """Learn from an alert whether its incident has ended, or opened again since."""
        ended_ms = self._at_ms.get(alert.incident_id)
        if alert.state == "resolved":
            self._at_ms[alert.incident_id] = max(alert.ts_ms, ended_ms or 0)
        elif alert.state != "reminder" and ended_ms is not None and alert.ts_ms >= ended_ms:
            del self._at_ms[alert.incident_id]

    def has(self, alert: Alert) -> bool:
        """Whether the alert's incident has ended, and did not open again."""
        return alert.incident_id in self._at_ms

    def forget(self, now_ms: int) -> None:
        """Drop what is too old."""
        self._at_ms = {incident_id: at_ms for incident_id, at_ms in self._at_ms.items() if now_ms < at_ms + KEEP_MS}
