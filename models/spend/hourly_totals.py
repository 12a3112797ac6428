"""Hourly totals of workflows, and the rollups that follow from them."""

from models.effects import Effect
from models.spend.hours import Hours
from models.state.partition import PartitionState
from models.state.spend.totals import FLUSH_MS, KEEP_MS, HourTotals
from models.state.tenant import Tenant
from models.state.units.route import Route
from schemas.rollup import rollup_key


class HourlyTotals:
    """The totals of a partition's workflows, by hour."""

    def __init__(self, state: PartitionState, hours: Hours) -> None:
        self._state = state
        self._hours = hours

    def of(self, tenant: Tenant, route: Route, at_ms: int) -> HourTotals:
        """The totals to count in; counting is announced, so that a rollup follows."""
        totals = route.totals
        if totals is None or not totals.start_ms <= at_ms < totals.end_ms or totals.deleted:
            start_ms, end_ms = self._hours.around(at_ms)
            key = (route.workflow, start_ms)
            totals = tenant.totals.get(key)
            if totals is None:
                totals = tenant.totals[key] = HourTotals(tenant.tenant_id, route.workflow, start_ms, end_ms)
            route.totals = totals
        if not totals.flush_ms:
            totals.flush_ms = tenant.clock_ms + FLUSH_MS
            self._wait(tenant, totals, totals.flush_ms)
        if not totals.dirty:
            self._state.touch(totals)
        return totals

    def due(self, tenant: Tenant, workflow: str, start_ms: int, now_ms: int) -> None:
        """A rollup is due, or an hour so old that nothing can change it any more."""
        totals = tenant.totals.get((workflow, start_ms))
        if totals is None or totals.due_ms != now_ms:
            return
        if totals.flush_ms and now_ms >= totals.flush_ms:
            totals.flush_ms = 0
            key = rollup_key(tenant.tenant_id, workflow, start_ms)
            self._state.publish(Effect("rollups.v1", key, totals.rollup(now_ms)))
        if now_ms >= totals.end_ms + KEEP_MS:
            del tenant.totals[workflow, start_ms]
            self._state.forget(totals)
        else:
            self._wait(tenant, totals, totals.end_ms + KEEP_MS)

    def _wait(self, tenant: Tenant, totals: HourTotals, due_ms: int) -> None:
        totals.due_ms = due_ms
        tenant.wake_at(due_ms, "totals", (totals.workflow, str(totals.start_ms)))
        self._state.touch(totals)
