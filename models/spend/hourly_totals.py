"""Hourly totals of workflows, and the rollups that follow from them."""

from models.attribution import Router
from models.effects import Effect
from models.spend.hours import Hours
from models.state.partition import PartitionState
from models.state.spend.breakdown import MOST_KNOWN, MOST_PORTIONS, HourShares, KnownNames, Names, Portion
from models.state.spend.totals import FLUSH_MS, HourTotals, totals_key
from models.state.tenant import Tenant
from models.state.units.route import Route
from models.state.units.runs import Attributes, Run
from schemas.duration import DAY_MS, HOUR_MS
from schemas.usage import UNATTRIBUTED, LlmCall, ToolCall


class HourlyTotals:
    """The totals of a partition's workflows, by hour."""

    def __init__(self, state: PartitionState, router: Router, hours: Hours) -> None:
        self._state = state
        self._router = router
        self._hours = hours

    def of(self, tenant: Tenant, route: Route, at_ms: int) -> HourTotals:
        """The totals to count in; counting is announced, so that a rollup follows."""
        totals = route.totals
        if totals is None or not totals.start_ms <= at_ms < totals.end_ms or totals.deleted:
            totals = route.totals = self._find(tenant, route.workflow, at_ms)
        if not totals.flush_ms or not totals.dirty:
            self._announce(tenant, totals)
        return totals

    def booked(self, tenant: Tenant, route: Route, at_ms: int) -> HourTotals:
        """The totals of what is booked now for an hour that is long over. They are published beside those of that hour,
        which nobody may have any more: written again with less, they would be lost to compaction.
        """
        totals = self._find(tenant, route.workflow, at_ms, tenant.clock_ms - tenant.clock_ms % HOUR_MS)
        self._announce(tenant, totals)
        return totals

    def model_call(self, tenant: Tenant, run: Run, totals: HourTotals, call: LlmCall, cost_nanousd: int) -> None:
        """Count a model call of a run, which has the call's route key by then."""
        totals.cost_nanousd += cost_nanousd
        totals.calls += 1
        totals.input_tokens += call.input_tokens
        totals.output_tokens += call.output_tokens
        if call.attempt > 1:
            totals.retries += 1
        if call.status == "error":
            totals.errors += 1
        portion = run.portion
        if portion.span is not totals.span or portion.model != call.model:
            known = portion.model == call.model  # then only the hour or the stretch is another one
            names = portion.names if known else self._router.names(tenant, run.attributes, run.route_key, call.model)
            portion = run.portion = self._portion(tenant, totals, names)
        portion.cost_nanousd += cost_nanousd
        portion.calls += 1
        portion.input_tokens += call.input_tokens
        portion.output_tokens += call.output_tokens

    def break_down(
        self, tenant: Tenant, totals: HourTotals, attributes: Attributes, message: LlmCall | ToolCall, cost_nanousd: int
    ) -> None:
        """Count what a tool call or a booked model call has cost under each of its names; `attributes`: its run's."""
        model = message.model if isinstance(message, LlmCall) else UNATTRIBUTED
        names = self._router.names(tenant, attributes, self._router.key_of(message), model)
        portion = self._portion(tenant, totals, names)
        portion.cost_nanousd += cost_nanousd
        if isinstance(message, LlmCall):
            portion.calls += 1
            portion.input_tokens += message.input_tokens
            portion.output_tokens += message.output_tokens

    def of_day(self, tenant: Tenant, totals: HourTotals) -> list[HourTotals]:
        """The hours of the day (UTC) until the one of `totals`, which is the first of them."""
        day_ms = totals.start_ms - totals.start_ms % DAY_MS
        starts = range(totals.start_ms, day_ms - 1, -HOUR_MS)
        found = (tenant.totals.get(totals_key(totals.workflow, start_ms)) for start_ms in starts)
        return [hour for hour in found if hour is not None]

    def due(self, tenant: Tenant, key: tuple[str, ...], now_ms: int) -> None:
        """A rollup is due, or an hour so old that nothing can change it any more."""
        totals = tenant.totals.get(key)
        if totals is None or totals.due_ms != now_ms:
            return
        if totals.flush_ms and now_ms >= totals.flush_ms:
            totals.flush_ms = 0
            shares = self._fold(tenant, totals) if totals.portions else tenant.shares.get(key)
            rollup = totals.rollup(now_ms, shares.published() if shares is not None else {})
            self._state.publish(Effect("rollups.v1", rollup.key, rollup))
        if now_ms >= totals.keep_until_ms:
            del tenant.totals[key]
            self._state.forget(totals)
            if (over := tenant.shares.pop(key, None)) is not None:
                self._state.forget(over)
            if not tenant.totals:
                self._forget_names(tenant)
        else:
            self._wait(tenant, totals, totals.keep_until_ms)

    def _portion(self, tenant: Tenant, totals: HourTotals, names: Names) -> Portion:
        """Where what is spent under this attribution is counted from here on."""
        portion = totals.portions.get(names)
        if portion is not None:
            return portion
        if len(totals.portions) >= MOST_PORTIONS:
            self._fold(tenant, totals)
        known = tenant.names.get(names)
        if known is None:
            if len(tenant.names) >= MOST_KNOWN:
                self._forget_names(tenant)
            known = tenant.names[names] = KnownNames(tenant.tenant_id, len(tenant.names), names)
            self._state.touch(known)
        portion = totals.portions[known.names] = Portion(known.names, known.number, totals.span)
        return portion

    def _forget_names(self, tenant: Tenant) -> None:
        for key in sorted(tenant.totals):
            if tenant.totals[key].portions:
                self._fold(tenant, tenant.totals[key])
        for known in tenant.names.values():
            self._state.forget(known)
        tenant.names = {}

    def _fold(self, tenant: Tenant, totals: HourTotals) -> HourShares:
        """Add what was spent since the last time to the sums by name."""
        shares = tenant.shares.get(totals.key)
        if shares is None:
            shares = tenant.shares[totals.key] = HourShares(tenant.tenant_id, totals.key)
        shares.add(totals.take_portions())
        self._state.touch(shares)
        self._state.touch(totals)
        return shares

    def _find(self, tenant: Tenant, workflow: str, at_ms: int, booked_ms: int | None = None) -> HourTotals:
        start_ms, end_ms = self._hours.around(at_ms)
        key = totals_key(workflow, start_ms, booked_ms)
        totals = tenant.totals.get(key)
        if totals is None:
            totals = HourTotals(tenant.tenant_id, workflow, start_ms, end_ms, booked_ms)
            tenant.totals[totals.key] = totals
        return totals

    def _announce(self, tenant: Tenant, totals: HourTotals) -> None:
        if not totals.flush_ms:
            totals.flush_ms = tenant.clock_ms + FLUSH_MS
            self._wait(tenant, totals, totals.flush_ms)
        self._state.touch(totals)

    def _wait(self, tenant: Tenant, totals: HourTotals, due_ms: int) -> None:
        totals.due_ms = due_ms
        tenant.wake_at(due_ms, "totals", totals.key)
        self._state.touch(totals)
