"""Wrong data at work: counted in the tenant's tallies, and told once a tenant, kind and day."""

from dataclasses import replace
from typing import Any, Final

from models.commands.enforcement import Enforcement
from models.incidents.incident import Subject
from models.prices.book import Charge, Problem
from models.spend.hourly_totals import HourlyTotals
from models.state.data_quality import Kind, Tally
from models.state.partition import PartitionState
from models.state.spend.totals import HourTotals
from models.state.tenant import Tenant
from models.state.units.route import Route
from models.state.units.runs import Run
from schemas.dead_letter import DeadLetter
from schemas.duration import DAY_MS
from schemas.usage import UNATTRIBUTED, LlmCall, ToolCall, UsageMessage

LOOKS: Final = frozenset((1, *range(10, 100, 10)))
LOOK_EVERY: Final = 100
"""After how many blind tool calls of an hour the whole day's are looked at."""
NOBODYS: Final = {(True, True): ("owner", "workflow"), (True, False): ("owner",), (False, True): ("workflow",)}
"""What spend does not name, by whether its owner and its workflow are unknown."""


class QualityWatch:
    """The data-quality rules of a partition."""

    def __init__(self, state: PartitionState, totals: HourlyTotals, enforcement: Enforcement) -> None:
        self._state = state
        self._totals = totals
        self._enforcement = enforcement

    def charged(self, tenant: Tenant, run: Run, route: Route, call: LlmCall, charge: Charge, at_ms: int) -> None:
        """Count what is wrong with a call's cost."""
        tokens = charge.input_tokens + charge.output_tokens
        for problem in charge.problems:
            if problem == "unpriced" and route.totals is not None:
                route.totals.unpriced_calls += 1
                route.totals.unpriced_tokens += tokens
            tally = tenant.quality.tally(problem, at_ms)
            tally.add(
                cost_nanousd=_charged_or_reported(problem, call, charge),
                computed_nanousd=charge.computed_nanousd or 0,
                tokens=tokens,
                model=call.model,
                run_id=call.run_id,
                notes=charge.missing if problem == "not_fully_priced" else (),
            )
            out_of_reach = problem == "unpriced" and self._money_limited(run, route)
            self._judge(tenant, problem, tally, at_ms, out_of_reach=out_of_reach)

    def unattributed(self, tenant: Tenant, route: Route, run_id: str, cost_nanousd: int, at_ms: int) -> None:
        """Count spend that names no owner or no workflow."""
        tally = tenant.quality.tally("unattributed", at_ms)
        missing = NOBODYS[route.owner == UNATTRIBUTED, route.workflow == UNATTRIBUTED]
        tally.add(cost_nanousd=cost_nanousd, run_id=run_id, notes=missing)
        self._judge(tenant, "unattributed", tally, at_ms)

    def blind(self, tenant: Tenant, route: Route, totals: HourTotals, run_id: str) -> None:
        """Count a tool call of which nobody knows what it did, where a rule wants to know; by workflow, in `totals`."""
        totals.blind_tool_calls += 1
        is_due = totals.blind_tool_calls in LOOKS or not totals.blind_tool_calls % LOOK_EVERY
        if not is_due or not route.tool_rules:
            return
        tally = Tally(totals.start_ms - totals.start_ms % DAY_MS)
        if tally.day_ms + DAY_MS <= self._state.now_ms:
            return
        hours = self._totals.of_day(tenant, totals)
        tally.records = sum(hour.blind_tool_calls for hour in hours)
        tally.of_records = sum(hour.tool_calls for hour in hours)
        tally.runs = [run_id]
        subject = replace(
            _subject(tenant, "blind", tally),
            key=("blind", totals.workflow, tally.day_ms),
            scope={"tenant_id": tenant.tenant_id, "workflow": totals.workflow},
            owner=None if route.owner == UNATTRIBUTED else route.owner,
        )
        for rule in self._state.policy.quality_rules["blind"]:
            if (finding := rule.judge("blind", tally, out_of_reach=False)) is not None:
                self._enforcement.apply(tenant, rule, finding, subject, self._state.now_ms)

    def too_late(self, tenant: Tenant, message: UsageMessage, cost_nanousd: int) -> None:
        """Count a record that came more than a day late, on the day it came."""
        tally = tenant.quality.tally("too_late", tenant.clock_ms)
        tally.add(cost_nanousd=cost_nanousd, run_id=message.run_id)
        self._judge(tenant, "too_late", tally, tenant.clock_ms)

    def copied(
        self, tenant: Tenant, kind: Kind, message: LlmCall | ToolCall, cost_nanousd: int, append_ms: int
    ) -> None:
        """Count a call whose id was another's, or that may be a late copy, on the day it came. One that does not count
        moves no clock of its tenant.
        """
        now_ms = self._state.now_ms = max(tenant.clock_ms, append_ms)
        tally = tenant.quality.tally(kind, now_ms)
        tally.add(cost_nanousd=cost_nanousd, run_id=message.run_id)
        self._judge(tenant, kind, tally, now_ms)

    def backfilled(self, tenant: Tenant, message: UsageMessage, cost_nanousd: int) -> None:
        """Count a record of an earlier day that was booked, on the day it was: who marks what is new as old is seen."""
        tally = tenant.quality.tally("backfilled", tenant.clock_ms)
        tally.add(cost_nanousd=cost_nanousd, run_id=message.run_id)
        self._judge(tenant, "backfilled", tally, tenant.clock_ms)

    def misplaced(self, tenant: Tenant, run_id: str | None, *, had_key: bool) -> None:
        """Count a record that had been written to a partition that is not the tenant's, on the day it came."""
        self._state.now_ms = tenant.clock_ms
        tally = tenant.quality.tally("misplaced", tenant.clock_ms)
        tally.add(run_id=run_id, notes=("with another partitioner" if had_key else "without a key",))
        self._judge(tenant, "misplaced", tally, tenant.clock_ms)

    def unreadable(self, tenant: Tenant, letter: DeadLetter) -> None:
        """Count a record under the tenant's key that could not be read. The tenant's clock stands: whoever wrote it."""
        self._state.now_ms = max(tenant.clock_ms, letter.ts_ms)
        tally = tenant.quality.tally("unreadable", letter.ts_ms)
        tally.add(notes=(f"{letter.reason}: {letter.detail}",))
        self._judge(tenant, "unreadable", tally, letter.ts_ms)

    def _judge(self, tenant: Tenant, kind: Kind, tally: Tally, at_ms: int, *, out_of_reach: bool = False) -> None:
        self._state.touch(tenant)
        policy = self._state.policy
        if not tally.is_due(policy.stamp):
            return
        found_all = True
        for rule in policy.quality_rules[kind]:
            finding = rule.judge(kind, tally, out_of_reach=out_of_reach)
            if finding is None:
                found_all = False
                continue
            self._enforcement.apply(tenant, rule, finding, _subject(tenant, kind, tally), at_ms)
        if found_all:
            tally.judged(policy.stamp)

    def _money_limited(self, run: Run, route: Route) -> bool:
        """Whether some enforced limit in money is meant to stop what this run spends."""
        if run.stop_rule is not None and run.stop_rule.cap_nanousd is not None:
            return True
        rules: list[Any] = [rule for rules in route.unit_rules.values() for rule in rules]
        for scope in route.scopes:
            rules += self._state.policy.scope_rules.get(scope.meter.meter_id, ())
        return any(
            rule.settings.mode == "enforce"
            and rule.limit_action is not None
            and getattr(rule.settings, "limit_usd", None) is not None
            for rule in rules
        )


def _subject(tenant: Tenant, kind: Kind, tally: Tally) -> Subject:
    return Subject(
        key=(kind, tally.day_ms),
        scope={"tenant_id": tenant.tenant_id},
        owner=None,
        window_start_ms=tally.day_ms,
        window_end_ms=tally.day_ms + DAY_MS,
    )


def _charged_or_reported(problem: Problem, call: LlmCall, charge: Charge) -> int:
    """A mismatch is about what was reported, also where the policy charges the computed price."""
    return (call.cost_nanousd or 0) if problem == "price_mismatch" else charge.cost_nanousd
