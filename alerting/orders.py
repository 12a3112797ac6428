"""What people ordered about telling, and which runs were killed. Mutes people, never brakes."""

from alerting.routing import labels, matches
from schemas.alert import Alert
from schemas.operator import Acknowledge, Silence

KEEP_KILLED_MS = 24 * 3_600_000


class Orders:
    """Silences, acknowledgements and kills in force."""

    def __init__(self) -> None:
        self._silences: dict[str, dict[str, Silence]] = {}
        self._acknowledged: dict[tuple[str, str], Acknowledge] = {}
        self._killed_ms: dict[tuple[str, str], int] = {}

    def obey(self, message: Silence | Acknowledge) -> None:
        """Take in an order. The same order twice is one."""
        if isinstance(message, Silence):
            self._silences.setdefault(message.tenant_id, {})[message.message_id] = message
        else:
            self._acknowledged[message.tenant_id, message.incident_id] = message

    def killed(self, tenant_id: str, run_id: str, at_ms: int, *, lifted: bool) -> None:
        """A run was ordered to die, or allowed to live again."""
        if lifted:
            self._killed_ms.pop((tenant_id, run_id), None)
        else:
            self._killed_ms[tenant_id, run_id] = at_ms

    def is_killed(self, tenant_id: str, run_id: str) -> bool:
        """Whether the run was ordered to die."""
        return (tenant_id, run_id) in self._killed_ms

    def acknowledgement(self, alert: Alert) -> Acknowledge | None:
        """Who acts on the alert's incident."""
        return self._acknowledged.get((alert.tenant_id, alert.incident_id))

    def over(self, alert: Alert) -> None:
        """The incident has ended: if it opens again, somebody must look again."""
        order = self.acknowledgement(alert)
        if order is not None and order.ts_ms <= alert.ts_ms:
            del self._acknowledged[alert.tenant_id, alert.incident_id]

    def silence(self, alert: Alert, now_ms: int) -> Silence | None:
        """The silence that covers the alert for longest. A silence without matchers covers its whole tenant."""
        silences = self._silences.get(alert.tenant_id, {}).values()
        found = labels(alert)
        covering = [order for order in silences if now_ms < order.until_ms and matches(order.match, found)]
        return max(covering, key=lambda order: (order.until_ms, order.message_id), default=None)

    def forget(self, now_ms: int) -> None:
        """Drop what is over."""
        for tenant_id, silences in list(self._silences.items()):
            self._silences[tenant_id] = {name: order for name, order in silences.items() if now_ms < order.until_ms}
            if not self._silences[tenant_id]:
                del self._silences[tenant_id]
        self._killed_ms = {run: at_ms for run, at_ms in self._killed_ms.items() if now_ms < at_ms + KEEP_KILLED_MS}
