"""Runs on which a kill stands: what they would warn of has been dealt with."""

from schemas.alert import Alert
from schemas.operator import Resume

KEEP_MS = 24 * 3_600_000
"""How long it is known whether a run is killed: for what is still pending about it. Its later alerts say it again."""
FREE, KILLED, RESUMED = 0, 1, 2
"""What is known of a run. Of two facts of the same instant the higher holds."""


class KilledRuns:
    """Which runs are killed, as far as their alerts and operators' orders say."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], tuple[int, int]] = {}
        """Run -> when it was last known whether it is killed, and what."""

    def observe(self, alert: Alert) -> None:
        """Learn from an alert whether its run is killed. In any order: the alert of the latest time holds."""
        if alert.run_id is not None:
            self._note(alert.tenant_id, alert.run_id, alert.ts_ms, KILLED if alert.command == "kill" else FREE)

    def resumed(self, order: Resume) -> None:
        """Somebody has let a run go on."""
        if order.target.type == "run":
            self._note(order.tenant_id, order.target.id, order.ts_ms, RESUMED)

    def has(self, tenant_id: str, run_id: str) -> bool:
        """Whether a kill stands on the run."""
        return self._of.get((tenant_id, run_id), (0, FREE))[1] == KILLED

    def forget(self, now_ms: int) -> None:
        """Drop what is too old."""
        self._of = {run: known for run, known in self._of.items() if now_ms < known[0] + KEEP_MS}

    def _note(self, tenant_id: str, run_id: str, at_ms: int, what: int) -> None:
        run = (tenant_id, run_id)
        self._of[run] = max(self._of.get(run, (at_ms, what)), (at_ms, what))
