"""Time passes for a tenant: what falls due is done, each at its own time."""

from models.commands.commands import Commands
from models.commands.obedience import Obedience
from models.incidents.incidents import Incidents
from models.runs.counters import UnitCounters
from models.runs.escalations import EscalationWatch
from models.runs.memory import Memory
from models.runs.records import RunRecords
from models.runs.registry import RunRegistry
from models.runs.results import ResultBooks
from models.spend.hourly_totals import HourlyTotals
from models.spend.ledger import SpendLedger
from models.state.partition import PartitionState
from models.state.tenant import Tenant


class Timers:
    """What falls due in a partition."""

    def __init__(
        self,
        state: PartitionState,
        incidents: Incidents,
        commands: Commands,
        obedience: Obedience,
        totals: HourlyTotals,
        runs: RunRegistry,
        memory: Memory,
        counters: UnitCounters,
        results: ResultBooks,
        escalations: EscalationWatch,
        records: RunRecords,
        ledger: SpendLedger,
    ) -> None:
        self._state = state
        self._incidents = incidents
        self._commands = commands
        self._obedience = obedience
        self._totals = totals
        self._runs = runs
        self._memory = memory
        self._counters = counters
        self._results = results
        self._escalations = escalations
        self._records = records
        self._ledger = ledger

    def pass_time(self, tenant: Tenant, now_ms: int) -> None:
        """Do what falls due up to `now_ms`, each at its own time. The tenant itself may be forgotten by that."""
        while (timer := tenant.next_timer(now_ms)) is not None:
            due_ms, kind, key = timer
            self._state.now_ms = max(due_ms, tenant.clock_ms)
            match kind:
                case "run":  # the most frequent one by far
                    if key[0]:
                        self._runs.run_due(tenant, key[0], due_ms)
                    else:
                        tenant.records_due(due_ms)
                case "update":
                    self._incidents.due(tenant, key[0], due_ms)
                case "command":
                    if ended := self._obedience.due(tenant, key[0], key[1], due_ms):  # type: ignore[arg-type]
                        self._runs.judge(tenant, ended, due_ms)  # what was overlaid by it may still be wanted
                case "held":
                    self._commands.held_due(tenant, due_ms)
                case "totals":
                    self._totals.due(tenant, key, due_ms)
                case "session":
                    self._runs.group_due(tenant, tenant.sessions.get(key[0]), due_ms)
                case "tree":
                    self._runs.group_due(tenant, tenant.trees.get(key[0]), due_ms)
                case "failing":
                    self._counters.failures.due(tenant, key, due_ms)
                case "scope":
                    self._ledger.limit_due(tenant, key, due_ms)
                case "results":
                    self._results.due(tenant, key, due_ms)
                case "escalations":
                    self._escalations.due(tenant, key[0], due_ms)
                case "orders":
                    self._records.orders_due(tenant, due_ms)
                case "asleep":
                    self._memory.due(tenant, due_ms)
                case "tenant":
                    if tenant.is_forgotten(due_ms):
                        self._state.forget_tenant(tenant)
                    else:
                        tenant.look_after_silence(due_ms)
                case _:
                    raise AssertionError(f"a timer of an unknown kind: {kind}")
            self.look_again()

    def look_again(self) -> None:
        """Commands have ended because their reason is gone: what another rule asks of their targets follows at once."""
        lifted = self._commands.lifted
        while lifted:
            one = lifted.pop(0)
            self._runs.judge(one.tenant, one.command.target, self._state.now_ms)
            self._commands.resume_lifted(one)
