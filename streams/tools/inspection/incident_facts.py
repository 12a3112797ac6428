"""Incidents, as alerts.v1 tells of them, and who has taken them in hand, as operator.v1 does."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas.alert import WATCHDOG, Alert
from schemas.codec import decode_alert
from schemas.errors import Undecodable
from schemas.operator import Acknowledge
from schemas.policy import Severity
from streams.kafka.admin import existing_topics
from streams.kafka.order_reader import OrderReader
from streams.kafka.whole_topic import committed_records
from streams.settings import Settings
from streams.tools.inspection.terminal import short_ids
from streams.tools.orders.audit import audit, read_orders

WORST_FIRST: tuple[Severity, ...] = ("critical", "error", "warning", "info")


@dataclass(frozen=True, slots=True)
class IncidentFacts:
    """One incident."""

    short_id: str
    """The shortest beginning of its id that is no other incident's of its tenant."""
    since_ms: int
    newest: Alert
    acknowledged: Acknowledge | None = None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.newest.state != "resolved"


def incident_facts(settings: Settings, tenant_id: str | None, now_ms: int) -> list[IncidentFacts]:
    """Every incident that alerts.v1 tells of, of one tenant or all: open ones first, the worst of them, the newest.

    Raises:
        BrokerError: a topic cannot be read.
    """
    existing_topics(settings, ("alerts.v1", "operator.v1"))
    alerts = (one for one in readable_alerts(settings) if tenant_id in (None, one.tenant_id))
    return incidents_of(alerts, _acknowledged(settings, now_ms))


def incidents_of(alerts: Iterable[Alert], acknowledged: Iterable[Acknowledge] = ()) -> list[IncidentFacts]:
    """The incidents of these alerts, which come oldest first; heartbeats are none."""
    newest: dict[tuple[str, str], Alert] = {}
    first_ms: dict[tuple[str, str], int] = {}
    for alert in alerts:
        key = (alert.tenant_id, alert.incident_id)
        if alert.detector == WATCHDOG:
            continue
        if key in newest and newest[key].state == "resolved" and alert.state != "resolved":
            del first_ms[key]  # the same fact once more
        newest[key] = alert
        first_ms.setdefault(key, alert.evidence.get("since_ms", alert.ts_ms))
    in_hand = {(one.tenant_id, one.incident_id): one for one in acknowledged}
    short = {tenant_id: short_ids(one for tenant, one in newest if tenant == tenant_id) for tenant_id, _ in newest}
    found = [
        IncidentFacts(short[key[0]][key[1]], first_ms[key], alert, in_hand.get(key)) for key, alert in newest.items()
    ]
    return sorted(found, key=_rank)


def readable_alerts(settings: Settings) -> Iterator[Alert]:
    """All alerts, oldest first within a tenant. What cannot be read is left out: others tell of it."""
    for record in committed_records(settings, "alerts.v1", progress=True):
        try:
            yield decode_alert(record.value())
        except Undecodable:
            continue


def _rank(one: IncidentFacts) -> tuple[bool, int, int]:
    return (not one.is_open, WORST_FIRST.index(one.newest.severity), -one.newest.ts_ms)


def _acknowledged(settings: Settings, now_ms: int) -> Iterator[Acknowledge]:
    """Acknowledgements in force; none where no key is known to check them with."""
    reader = OrderReader.of(settings)
    if reader.believes_nobody:
        return
    for one in audit(read_orders(settings), reader, now_ms):
        if isinstance(one.order, Acknowledge) and one.status == "until the incident ends":
            yield one.order
