"""Incidents on which somebody acts, or of which somebody has said that nobody need."""

from schemas.alert import Alert
from schemas.operator import Acknowledge, Feedback

KEEP_MS = 35 * 24 * 3_600_000
"""How long an incident counts as acknowledged at most: a month's budget, and a bit."""


class Acknowledgements:
    """Who has acknowledged which incident, or called it noise or planned."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], Acknowledge | Feedback] = {}

    def add(self, order: Acknowledge | Feedback) -> None:
        """Somebody has acknowledged an incident."""
        self._of[order.tenant_id, order.incident_id] = order

    def of(self, alert: Alert) -> Acknowledge | Feedback | None:
        """Who has acknowledged the alert's incident."""
        return self._of.get((alert.tenant_id, alert.incident_id))

    def ended(self, alert: Alert) -> None:
        """The incident has ended: if it opens again, somebody must look again."""
        order = self.of(alert)
        if order is not None and order.ts_ms <= alert.ts_ms:
            del self._of[alert.tenant_id, alert.incident_id]

    def forget(self, now_ms: int) -> None:
        """Drop what is too old."""
        self._of = {key: order for key, order in self._of.items() if now_ms < order.ts_ms + KEEP_MS}
