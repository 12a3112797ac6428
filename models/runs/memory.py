"""Sleeping runs, sessions and run trees: a week of silence lifts no limit."""

from typing import Final

from models.incidents.incident import tenant_in_hour
from models.incidents.incidents import Incidents
from models.rules.service_rules import FORGOTTEN_RUNS
from models.runs.groups import Groups
from models.state.partition import PartitionState
from models.state.rows import row_digest, row_key, row_value
from models.state.tenant import Tenant
from models.state.units.groups import Group, RunTree, Session
from models.state.units.runs import Attributes, Run
from schemas.duration import DAY_MS, HOUR_MS

MOST_AT_ONCE: Final = 1_000
"""So many are forgotten at a time; the rest a second later, so that a batch stays small."""
GROUPS: dict[str, type[Group]] = {"session": Session, "tree": RunTree}


class Memory:
    """Puts the units of a partition to sleep, wakes them, and forgets them when their days are over."""

    def __init__(self, state: PartitionState, incidents: Incidents, groups: Groups) -> None:
        self._state = state
        self._incidents = incidents
        self._groups = groups

    def sleep(self, tenant: Tenant, run: Run, now_ms: int) -> None:
        """A run has been silent for long: remember it small."""
        run.asleep = True
        run.remember_model()
        tenant.asleep.put("run", run.unit_id, run.last_ms, row_value(run))
        del tenant.runs[run.unit_id]
        self._state.touch(run)
        self._state.touch(tenant)  # the clock stood in the run's row
        self._keep_within_bounds(tenant, now_ms)

    def sleep_group(self, tenant: Tenant, group: Group, now_ms: int) -> None:
        """A session or tree has been silent for long: remember it small."""
        self._groups.sleep(tenant, group, now_ms)
        self._keep_within_bounds(tenant, now_ms)

    def wake(self, tenant: Tenant, run_id: str) -> Run | None:
        """A sleeping run of that id, awake and among the tenant's runs from here on."""
        row = tenant.asleep.pop("run", run_id)
        if row is None:
            return None
        run = tenant.runs[run_id] = Run.read(tenant.tenant_id, run_id, row)
        run.row_hash = row_digest(row_key(run), row)
        run.clock_ms = tenant.clock_ms
        tenant.live_runs += run.state == "live"
        return run

    def all_runs(self, tenant: Tenant) -> list[Run]:
        """Every run that is known, awake or asleep, by id. Sleeping ones are read and sleep on."""
        runs = {run_id: run for run_id in list(tenant.runs) if (run := tenant.run(run_id)) is not None}
        for run_id, row in tenant.asleep.rows("run"):
            runs[run_id] = Run.read(tenant.tenant_id, run_id, row)
        return [runs[run_id] for run_id in sorted(runs)]

    def attributes_of(self, tenant: Tenant, run_id: str) -> Attributes:
        """What a run, awake or asleep, has said of itself; a sleeping one is read and sleeps on."""
        run = tenant.peek_run(run_id)
        return () if run is None else run.attributes

    def due(self, tenant: Tenant, now_ms: int) -> None:
        """Forget what has slept for as long as the policy remembers."""
        if tenant.sleep_due_ms != now_ms:
            return
        expired = tenant.asleep.expired(now_ms - self._remember_ms(), MOST_AT_ONCE)
        self._forget(tenant, expired)
        tenant.sleep_due_ms = 0
        if len(tenant.asleep):
            self._look_again(tenant, now_ms + 1000 if len(expired) == MOST_AT_ONCE else _next_hour(now_ms))
        self._state.touch(tenant)

    def _keep_within_bounds(self, tenant: Tenant, now_ms: int) -> None:
        limit = self._state.policy.header.max_remembered_runs_per_tenant
        if not tenant.sleep_due_ms:
            self._look_again(tenant, _next_hour(now_ms))
        if len(tenant.asleep) <= limit:
            return
        self._forget(tenant, tenant.asleep.oldest(max(1, len(tenant.asleep) - limit)))
        finding = FORGOTTEN_RUNS.finding(tenant.tenant_id, len(tenant.asleep), limit)
        subject = tenant_in_hour(tenant.tenant_id, now_ms)
        self._incidents.note_and_publish(tenant, FORGOTTEN_RUNS, finding, subject, now_ms)

    def _forget(self, tenant: Tenant, rows: list[tuple[str, str, bytes]]) -> None:
        for kind, unit_id, row in rows:
            if kind != "run":
                self._groups.forget(tenant, GROUPS[kind], unit_id, row)
                continue
            run = Run(tenant.tenant_id, unit_id, 0)
            run.row_hash = row_digest(row_key(run), row)
            self._incidents.forget_unit(tenant, run.unit_key)
            self._state.forget(run)

    def _look_again(self, tenant: Tenant, at_ms: int) -> None:
        tenant.sleep_due_ms = at_ms
        tenant.wake_at(at_ms, "asleep", ())
        self._state.touch(tenant)

    def _remember_ms(self) -> int:
        return self._state.policy.header.remember_days * DAY_MS


def _next_hour(now_ms: int) -> int:
    return now_ms - now_ms % HOUR_MS + HOUR_MS
