"""Silences: what operators have asked not to be notified of, and until when. They mute people, never brakes."""

from alerting.routing.labels import labels, matches
from schemas.alert import Alert
from schemas.operator import Silence


class Silences:
    """The silences in force, by tenant."""

    def __init__(self) -> None:
        self._of: dict[str, dict[str, Silence]] = {}

    def add(self, silence: Silence) -> None:
        """Begin a silence. The same one twice is one."""
        self._of.setdefault(silence.tenant_id, {})[silence.message_id] = silence

    def covering(self, alert: Alert, now_ms: int) -> Silence | None:
        """The silence that covers the alert for longest. A silence without matchers covers its whole tenant."""
        silences = self._of.get(alert.tenant_id, {}).values()
        found = labels(alert)
        covering = [each for each in silences if now_ms < each.until_ms and matches(each.match, found)]
        return max(covering, key=lambda each: (each.until_ms, each.message_id), default=None)

    def forget(self, now_ms: int) -> None:
        """Drop what is over."""
        for tenant_id, silences in list(self._of.items()):
            self._of[tenant_id] = {name: each for name, each in silences.items() if now_ms < each.until_ms}
            if not self._of[tenant_id]:
                del self._of[tenant_id]
