"""Another policy is in force: brought to one tenant after the other, to each before anything else happens to it.

So what a change leads to for a tenant is the same whenever it is reached: by a slice of `catch_up`, by its own next
message, or after a restart. Which tenant follows which policy is part of the state.
"""

from collections.abc import Callable
from typing import Final

from models.attribution import Router
from models.commands.commands import Commands
from models.incidents.incidents import Incidents
from models.rules.policy import Policy
from models.rules.service_rules import SERVICE_RULES
from models.runs.registry import RunRegistry
from models.spend.hours import Hours
from models.spend.ledger import SpendLedger
from models.state.partition import PartitionState
from models.state.policy_row import EarlierPolicy
from models.state.tenant import Tenant
from models.timers import Timers

MOST_EARLIER: Final = 8
"""So many earlier policies may be followed at a time. Before there would be one more, all tenants catch up at once."""
LATE_MS: Final = 10_000
"""A tenant that is reached so much later than the policy came into force meets it then, not in its past: nobody can
have obeyed a command before it was given.
"""


class PolicyChanges:
    """The tenants of a partition on their way to the policy in force."""

    def __init__(
        self,
        state: PartitionState,
        router: Router,
        hours: Hours,
        incidents: Incidents,
        commands: Commands,
        ledger: SpendLedger,
        runs: RunRegistry,
        timers: Timers,
    ) -> None:
        self._state = state
        self._router = router
        self._hours = hours
        self._incidents = incidents
        self._commands = commands
        self._ledger = ledger
        self._runs = runs
        self._timers = timers
        self._order: list[str] = []
        """Of those that wait, the next last; some of them may not wait any more."""

    def announce(self, policy: Policy, previous: Policy | None, at_ms: int) -> None:
        """Another policy is in force since `at_ms`. Everybody known follows `previous` until `catch_up` or `follow`.

        `previous` is None where nobody can read any more what was in force.
        """
        state = self._state
        if len(state.earlier) >= MOST_EARLIER:
            self.catch_up()
        if state.tenants or state.waiting:
            earlier = EarlierPolicy(state.policy_row.number, previous, at_ms)
            earlier.tenants = len(state.tenants)
            state.earlier.append(earlier)
            state.touch(earlier)
            state.policy_row.number += 1
            state.waiting.update(state.tenants)
            state.tenants = {}
            self._order = []
        state.follow(policy)
        self._hours.limits_changed()

    def catch_up(self, enough: Callable[[], bool] | None = None, met_ms: int = 0) -> None:
        """Bring tenants to the policy in force, those with live runs first: one, and more until it is `enough`.

        `met_ms` is the time, as far as the partition's has come, if that is known.
        """
        state = self._state
        while state.policy_row.number:
            state.breathe()
            if state.waiting:
                self.follow(self._next(), met_ms)
            elif state.followed:
                state.forget(state.followed.popitem()[1])
            else:
                state.all_follow()
            if enough is not None and enough():
                return

    def follow(self, tenant_id: str, met_ms: int) -> Tenant | None:
        """Bring one that waits to the policy in force, through all that it has missed; something happens to it at
        `met_ms`. None if it turns out to be forgotten.
        """
        state = self._state
        newest = state.policy
        place = state.number_of(tenant_id) - state.earlier[0].number
        state.earlier[place].tenants -= 1
        tenant = state.tenants[tenant_id] = state.waiting.pop(tenant_id)
        state.follow_newest(tenant_id)
        missed = state.earlier[place:]
        for earlier, policy in zip(missed, [*[one.policy for one in missed[1:]], newest], strict=True):
            # What fell due before the first of these was done when it was announced.
            self._timers.pass_time(tenant, earlier.until_ms)
            if policy is not None and tenant_id in state.tenants:
                self._change(tenant, earlier, policy, met_ms)
        self._judge_by(newest)
        while state.earlier and not state.earlier[0].tenants:
            state.forget(state.earlier.pop(0))
        return state.tenants.get(tenant_id)

    def _next(self) -> str:
        waiting = self._state.waiting
        while True:
            if not self._order:
                self._order = sorted(waiting, key=lambda one: (not waiting[one].live_runs, one), reverse=True)
            tenant_id = self._order.pop()
            if tenant_id in waiting:
                return tenant_id

    def _judge_by(self, policy: Policy) -> None:
        if self._state.policy is not policy:
            self._state.policy = policy
            self._hours.limits_changed()

    def _change(self, tenant: Tenant, earlier: EarlierPolicy, policy: Policy, met_ms: int) -> None:
        """The policy after `earlier` reaches a tenant: what lives is judged by it, what is held is looked at again."""
        self._judge_by(policy)
        previous = earlier.policy
        limits_changed = previous is None or previous.unit_stamp != policy.unit_stamp
        now_ms = max(tenant.clock_ms, earlier.until_ms)
        self._state.now_ms = met_ms if met_ms > now_ms + LATE_MS else now_ms
        self._router.policy_changed(tenant)
        self._close_incidents_of_gone_rules(tenant)
        tracked = None if previous is None else previous.tracks
        self._runs.policy_changed(tenant, tracked, limits_changed=limits_changed)
        self._ledger.policy_changed(tenant)
        self._timers.look_again()
        self._commands.retry_held(tenant)

    def _close_incidents_of_gone_rules(self, tenant: Tenant) -> None:
        """Nobody would ever find out that what a removed rule found is over, or that a rule commands no more."""
        rules = self._state.policy.rules
        now_ms = self._state.now_ms
        known = {incident_id: one for incident_id, one in tenant.incidents.items() if one.alert is not None}
        for incident_id in sorted(known):
            incident = known[incident_id]
            rule = rules.get(incident.rule)
            if rule is None and incident.rule not in SERVICE_RULES:
                self._incidents.resolve(tenant, incident, now_ms, {"rule_removed": True})
            if rule is None:
                self._commands.relieve(tenant, incident_id, now_ms, "its rule was removed")
            elif rule.settings.mode != "enforce" or rule.limit_action is None:
                self._commands.relieve(tenant, incident_id, now_ms, "its rule stops nobody any more")
