"""What people ordered about telling, and which runs are killed. Mutes people, never brakes."""

from typing import TypeGuard

from alerting.routing.router import labels, matches
from schemas.alert import Alert
from schemas.operator import Acknowledge, Feedback, OperatorMessage, Resume, Silence

HOUR_MS = 3_600_000
KEEP_RUN_MS = 24 * HOUR_MS
"""How long it is known whether a run is killed: for what is still owed about it. Its later alerts say it again."""
KEEP_DEALT_WITH_MS = 35 * 24 * HOUR_MS
"""How long an incident counts as dealt with at most: a month's budget, and a bit."""

TellingOrder = Silence | Acknowledge | Feedback | Resume
"""What those who tell people obey."""
FREE, KILLED, RESUMED = 0, 1, 2
"""What is said of a run. Of two things said for the same instant the higher holds."""


def concerns_telling(message: OperatorMessage) -> TypeGuard[TellingOrder]:
    """Whether an order changes what people are told: the others are for the worker or for the review."""
    match message:
        case Silence() | Acknowledge():
            return True
        case Feedback(verdict=verdict):
            return verdict != "useful"
        case Resume(target=target):
            return target.type == "run"
        case _:
            return False


def incident_of(message: OperatorMessage) -> str | None:
    """The incident that somebody has taken in hand with it; None if it is about something else."""
    match message:
        case Acknowledge(incident_id=incident_id):
            return incident_id
        case Feedback(incident_id=incident_id, verdict="noise" | "planned"):
            return incident_id
        case Silence(match={"incident_id": incident_id, **others}) if not others:
            return incident_id
        case _:
            return None


def expires_ms(order: TellingOrder) -> int:
    """When an order can no longer change what is told."""
    match order:
        case Silence(until_ms=until_ms):
            return until_ms
        case Resume(ts_ms=ts_ms):
            return ts_ms + KEEP_RUN_MS
        case _:
            return order.ts_ms + KEEP_DEALT_WITH_MS


class Orders:
    """Silences, acknowledgements and feedback in force, and the runs that a kill stands on."""

    def __init__(self) -> None:
        self._silences: dict[str, dict[str, Silence]] = {}
        self._dealt_with: dict[tuple[str, str], Acknowledge | Feedback] = {}
        self._runs: dict[tuple[str, str], tuple[int, int]] = {}
        """Run -> when it was last said whether it is killed, and what."""

    def obey(self, order: TellingOrder) -> None:
        """Take in an order. The same order twice is one."""
        match order:
            case Silence(tenant_id=tenant_id, message_id=message_id):
                self._silences.setdefault(tenant_id, {})[message_id] = order
            case Resume(tenant_id=tenant_id, target=target):
                self._say(tenant_id, target.id, order.ts_ms, RESUMED)
            case _:
                self._dealt_with[order.tenant_id, order.incident_id] = order

    def observe(self, alert: Alert) -> None:
        """Learn from an alert whether its run is killed. In any order: what was said for the latest time holds."""
        if alert.run_id is not None:
            self._say(alert.tenant_id, alert.run_id, alert.ts_ms, KILLED if alert.command == "kill" else FREE)

    def is_killed(self, tenant_id: str, run_id: str) -> bool:
        """Whether a kill stands on the run, as far as its alerts and operators' orders say."""
        return self._runs.get((tenant_id, run_id), (0, FREE))[1] == KILLED

    def dealt_with(self, alert: Alert) -> Acknowledge | Feedback | None:
        """Who acts on the alert's incident, or has said that nobody need."""
        return self._dealt_with.get((alert.tenant_id, alert.incident_id))

    def over(self, alert: Alert) -> None:
        """The incident has ended: if it opens again, somebody must look again."""
        order = self.dealt_with(alert)
        if order is not None and order.ts_ms <= alert.ts_ms:
            del self._dealt_with[alert.tenant_id, alert.incident_id]

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
        self._dealt_with = {key: order for key, order in self._dealt_with.items() if now_ms < expires_ms(order)}
        self._runs = {run: said for run, said in self._runs.items() if now_ms < said[0] + KEEP_RUN_MS}

    def _say(self, tenant_id: str, run_id: str, at_ms: int, what: int) -> None:
        run = (tenant_id, run_id)
        self._runs[run] = max(self._runs.get(run, (at_ms, what)), (at_ms, what))
