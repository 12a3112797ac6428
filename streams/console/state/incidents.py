"""The incidents of one tenant: every alert about each, and who was notified of it."""

from collections import OrderedDict
from dataclasses import dataclass, field

from alerting.delivery.log import Delivery
from schemas.alert import WATCHDOG, Alert
from streams.tools.inspection.incident_facts import WORST_FIRST

MOST_ALERTS = 60
"""Of one incident: its first and its last are kept."""
MOST_DELIVERIES = 200
MOST_ENDED = 300
MOST_OPEN = 5_000


@dataclass(slots=True)
class Incident:
    """One fact that is wrong."""

    incident_id: str
    alerts: list[Alert] = field(default_factory=list)
    """Oldest first; where there are too many, those in the middle are left out."""
    left_out: int = 0
    deliveries: "OrderedDict[str, Delivery]" = field(default_factory=OrderedDict)

    @property
    def newest(self) -> Alert:
        """How it stands."""
        return self.alerts[-1]

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.newest.state != "resolved"

    @property
    def since_ms(self) -> int:
        """When it began."""
        since_ms = self.newest.evidence.get("since_ms")
        return since_ms if isinstance(since_ms, int) else self.alerts[0].ts_ms

    def note(self, alert: Alert) -> None:
        """Go on with an alert about it. One that is known, because a delivery came first, changes nothing."""
        if any(one.alert_id == alert.alert_id for one in self.alerts):
            return
        self.alerts.append(alert)
        if len(self.alerts) > MOST_ALERTS:
            del self.alerts[MOST_ALERTS // 2]
            self.left_out += 1

    def note_delivery(self, delivery: Delivery) -> None:
        """Go on with what became of telling somebody."""
        self.deliveries[delivery.key] = delivery
        if len(self.deliveries) > MOST_DELIVERIES:
            self.deliveries.popitem(last=False)


class Incidents:
    """All that are open, and those that ended last."""

    def __init__(self) -> None:
        self.open: OrderedDict[str, Incident] = OrderedDict()
        self.ended: OrderedDict[str, Incident] = OrderedDict()

    def take(self, alert: Alert) -> None:
        """Go on with an alert."""
        if alert.detector == WATCHDOG:
            return
        incident = self.get(alert.incident_id) or Incident(alert.incident_id)
        incident.note(alert)
        self.open.pop(alert.incident_id, None)
        self.ended.pop(alert.incident_id, None)
        home, most = (self.open, MOST_OPEN) if incident.is_open else (self.ended, MOST_ENDED)
        home[alert.incident_id] = incident
        if len(home) > most:
            home.popitem(last=False)

    def take_delivery(self, delivery: Delivery) -> None:
        """Go on with what became of telling somebody. It may come before the alert, which it holds."""
        if self.get(delivery.alert.incident_id) is None:
            self.take(delivery.alert)
        if incident := self.get(delivery.alert.incident_id):
            incident.note_delivery(delivery)

    def get(self, incident_id: str) -> Incident | None:
        """What is known of an incident."""
        return self.open.get(incident_id) or self.ended.get(incident_id)

    def about_run(self, run_id: str) -> list[Incident]:
        """Those about one run, oldest first."""
        both = (*self.ended.values(), *self.open.values())
        return sorted((one for one in both if one.newest.run_id == run_id), key=lambda one: one.since_ms)

    def newest(self) -> dict[str, Alert]:
        """Incident -> its newest alert."""
        return {one.incident_id: one.newest for one in (*self.ended.values(), *self.open.values())}


def rank(incident: Incident) -> tuple[int, int]:
    """The worst first, then the newest."""
    return (WORST_FIRST.index(incident.newest.severity), -incident.newest.ts_ms)
