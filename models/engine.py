"""The engine: what happens goes in, what to publish comes out. No clock, no I/O; time arrives in the messages.

One engine owns one partition. `handle` is the only way to change its state. Results do not depend on how the stream is
cut into batches: every message is taken in order, time moves with the messages, and what falls due on the way is
done at its own time, before the message that passes it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from models.attribution import Router
from models.commands.commands import Commands
from models.commands.enforcement import Enforcement
from models.commands.nudges import Nudges
from models.commands.obedience import Obedience
from models.commands.orders import Orders
from models.commands.standing import StandingCommand
from models.counts import Counts
from models.effects import Effect
from models.incidents.incident import tenant_in_hour
from models.incidents.incidents import Incidents
from models.policy_changes import PolicyChanges
from models.prices.book import PriceBook
from models.rules.policy import Policy
from models.rules.service_rules import FORGED_COMMAND, TENANTS
from models.runs.contexts import Contexts
from models.runs.counters import UnitCounters
from models.runs.escalations import EscalationWatch
from models.runs.groups import Groups
from models.runs.memory import Memory
from models.runs.records import RunRecords
from models.runs.registry import RunRegistry
from models.runs.results import ResultBooks
from models.runs.workflows import Workflows
from models.spend.across import SpendAcross
from models.spend.backfill import Backfill, is_bookable
from models.spend.copies import has_the_id_of_another, may_be_sent_again
from models.spend.hourly_totals import HourlyTotals
from models.spend.hours import Hours
from models.spend.ledger import SpendLedger
from models.spend.quality_watch import QualityWatch
from models.state.partition import PartitionState
from models.state.restore import restore, written_under
from models.state.seen_rows import SeenRows
from models.state.tenant import OVERFLOW_TENANT, Raised, Tenant
from models.state.units.runs import Run
from models.state.units.unit import MAX_NANOUSD
from models.stimuli import (
    CommandForged,
    OperatorSeen,
    PolicyChanged,
    RecordMoved,
    RecordRefused,
    SpendDue,
    SpendSeen,
    Stimulus,
    Ticked,
    UsageSeen,
)
from models.timers import Timers
from schemas.control import Command, Target
from schemas.duration import DAY_MS, HOUR_MS, MINUTE_MS
from schemas.internal.spend import ALL_TENANTS
from schemas.operator import Acknowledge, Feedback, Kill, LimitException, OperatorMessage, Resume
from schemas.signing import KeyId
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage

COMPILED: Final = not __file__.endswith(".py")
"""Whether this is the compiled engine (`make compiled`) or the interpreted one."""
AHEAD_MS: Final = 5 * MINUTE_MS
"""How far a message's own time may lie after its append."""
TOO_LATE_MS: Final = DAY_MS
"""How late a message may be and still count in its own bucket."""


class Engine:
    """Decides for one partition."""

    def __init__(
        self,
        policy: Policy,
        seed: int = 0,
        breathe: Callable[[], None] | None = None,
        *,
        commands_go_out_at_once: bool = True,
    ) -> None:
        """`seed` keys the hashes of event ids; that of rows to be restored goes before it. `breathe` is called again
        and again during what may take long: a restore, another policy, time that passes for very many. Unless
        `commands_go_out_at_once`, they do when `go_out` says so: a replay knows of no commit.
        """
        state = self._state = PartitionState(policy) if breathe is None else PartitionState(policy, breathe)
        self._hours = Hours(state)
        router = Router(state)
        self._across = SpendAcross(state)
        incidents = self._incidents = Incidents(state)
        records = self._records = RunRecords(state, router)
        commands = self._commands = Commands(state, incidents, records, go_out_at_once=commands_go_out_at_once)
        nudges = Nudges(state)
        enforcement = Enforcement(state, incidents, commands, nudges)
        totals = self._totals = HourlyTotals(state, router, self._hours)
        ledger = self._ledger = SpendLedger(state, router, self._hours, self._across, incidents, commands, enforcement)
        obedience = self._obedience = Obedience(state, incidents, commands, nudges)
        groups = Groups(state, incidents)
        contexts = self._contexts = Contexts(policy.header)
        escalations = EscalationWatch(state, enforcement)
        counters = self._counters = UnitCounters(state, router, groups, incidents, enforcement, contexts, escalations)
        memory = Memory(state, incidents, groups)
        workflows = Workflows(state, enforcement)
        results = ResultBooks(state, enforcement)
        runs = self._runs = RunRegistry(
            state, router, totals, incidents, commands, ledger, groups, counters, memory, workflows, results, records
        )
        timers = self._timers = Timers(
            state, incidents, commands, obedience, totals, runs, memory, counters, results, escalations, records, ledger
        )
        self._changes = PolicyChanges(state, router, self._hours, incidents, commands, ledger, runs, timers)
        self._orders = Orders(state, router, incidents, commands, ledger, counters, runs)
        self._prices = contexts.prices
        self._quality = QualityWatch(state, totals, enforcement)
        self._backfill = Backfill(router, memory, totals, ledger, self._quality)
        self._seen = SeenRows(policy.header.dedup_hours * HOUR_MS, seed)
        self._forgotten_ms = _forgotten_ms(policy)
        self.counts = Counts()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._state.policy

    def handle(self, stimulus: Stimulus) -> None:
        """Take in one thing that happened. What it leads to is collected by `drain_effects` and `drain_rows`."""
        match stimulus:
            case UsageSeen(message, append_ms):
                self.usage(message, append_ms)
            case Ticked(now_ms, None):
                self._ticked(now_ms)
            case Ticked(now_ms, str(tenant_id)):
                tenant = self._known(tenant_id, now_ms)
                if tenant is not None and tenant.is_due(now_ms):
                    self._timers.pass_time(tenant, now_ms)
            case RecordRefused(letter, tenant_id):
                self.counts.refused += 1
                tenant = None if tenant_id is None else self._known(tenant_id, letter.ts_ms)
                self._state.publish(Effect("usage.dlq.v1", letter.key or "", letter))
                if tenant is not None:
                    self._quality.unreadable(tenant, letter)
            case SpendDue():
                self._across.send()
            case SpendSeen(delta):
                self._ledger.charge_across(self._at(ALL_TENANTS, delta.ts_ms), delta)
            case OperatorSeen(message, append_ms):
                self._operator(message, append_ms)
            case RecordMoved(tenant_id, run_id, had_key):
                if (tenant := self._known(tenant_id)) is not None:
                    self._quality.misplaced(tenant, run_id, had_key=had_key)
            case CommandForged(tenant_id=tenant_id):
                if (tenant := self._known(tenant_id)) is not None:
                    self._forged(tenant, stimulus)
            case PolicyChanged(policy, at_ms, at_once):
                self._ticked(at_ms)
                self._announce(policy, self._state.policy, at_ms)
                if at_once:
                    self.catch_up()

    def go_out(self, at_ms: int) -> None:
        """The commands given since the last call are about to be published, at `at_ms` of the brokers' time."""
        self._commands.go_out(at_ms)

    def drain_effects(self) -> list[Effect]:
        """What is to be published, in order, since the last call."""
        return self._state.drain_effects()

    def drain_rows(self) -> list[tuple[bytes, bytes | None]]:
        """Changelog records of what has changed since the last call; None deletes a row."""
        rows = self._state.drain_rows()
        seen_rows, change = self._seen.take()
        self._state.row_sum = (self._state.row_sum + change) % 2**64
        return rows + seen_rows

    def drain_repeats(self) -> list[tuple[Command, KeyId]]:
        """Commands given before that are to be written once more, with on whose word. No part of what was decided."""
        repeats, self._commands.repeats = self._commands.repeats, []
        return repeats

    def repeat(self, tenant_id: str, target: Target) -> None:
        """Have the last command to a target written once more, because it is gone from control.v1."""
        tenant = self._state.all_tenants().get(tenant_id)
        if tenant is not None:
            self._commands.repeat(tenant, target)

    def standing(self) -> Iterator[StandingCommand]:
        """Every command that is in force by each tenant's clock, and every resume that has not run out."""
        for tenant in self._state.all_tenants().values():
            for command in tenant.commands.values():
                if command.command_id and tenant.clock_ms < command.expires_ms:
                    yield command

    @property
    def tenants(self) -> Mapping[str, object]:
        """What is known of each tenant, by its id."""
        return self._state.all_tenants()

    @property
    def waiting(self) -> int:
        """How many tenants another policy has not reached yet."""
        return len(self._state.waiting)

    @property
    def is_catching_up(self) -> bool:
        """Whether `catch_up` has anything to do."""
        return self._state.policy_row.number > 0

    def catch_up(self, enough: Callable[[], bool] | None = None, met_ms: int = 0) -> None:
        """Bring tenants that wait to the policy in force: one, and more until it is `enough`; None for all of them.

        `met_ms` is how far the partition's time has come. Where that is long after the change, it happens then.
        """
        self._changes.catch_up(enough, met_ms)

    def has_heard(self, tenant_id: str, since_ms: int) -> bool:
        """Whether a message of that tenant was appended at `since_ms` or later."""
        tenant = self._state.tenants.get(tenant_id) or self._state.waiting.get(tenant_id)
        return tenant is not None and tenant.clock_ms >= since_ms

    def heard(self, since_ms: int) -> int:
        """How many tenants have had a message appended at `since_ms` or later. Looks at all of them."""
        return sum(tenant.clock_ms >= since_ms for tenant in self._state.all_tenants().values())

    @property
    def has_effects(self) -> bool:
        """Whether `drain_effects` has anything to give."""
        return bool(self._state.effects)

    @property
    def has_changed(self) -> bool:
        """Whether `drain_effects`, `drain_rows` or `drain_repeats` has anything to give."""
        return bool(self._state.dirty or self._state.effects or self._commands.repeats)

    def discard_rows(self) -> None:
        """Forget which rows have changed: for a run that writes no changelog."""
        self._state.discard_rows()
        self._commands.repeats.clear()
        self._seen.ids.take_new()

    @property
    def seed(self) -> int:
        """What keys the hashes of event ids; 0 where nobody has chosen it."""
        return self._seen.ids.seed

    @property
    def digest(self) -> int:
        """The proof of the state: the sum of the digests of all rows taken so far, modulo 2**64."""
        return self._state.row_sum

    def restore(self, rows: Mapping[bytes, bytes], at_ms: int = 0, *, at_once: bool = True) -> None:
        """Take over the rows of a changelog, the newest of each key, in any order; once, before anything else.

        They follow the policy that was in force when they were written, a row among them. If the engine was made with
        another one, that comes into force here as it would in a running engine, at `at_ms`, or for each tenant at
        its last message if that is later; `at_once` as in `PolicyChanged`.
        """
        policy = self._state.policy
        previous = written_under(rows)
        if previous is not None:
            self._state.policy = previous
        restore(self._state, self._seen, rows)
        if rows and (previous is None or previous.stamp != policy.stamp or previous.version != policy.version):
            self._ticked(at_ms)
            self._announce(policy, previous, at_ms)
        if at_once:
            self.catch_up()

    def _announce(self, policy: Policy, previous: Policy | None, at_ms: int) -> None:
        """Another policy is in force; tenants follow later."""
        self._prices = self._contexts.prices = PriceBook(policy.header)
        self._seen.ids.remember(policy.header.dedup_hours * HOUR_MS)
        self._forgotten_ms = _forgotten_ms(policy)
        self._counters.policy_changed()
        self._changes.announce(policy, previous, at_ms)

    def usage(self, message: UsageMessage, append_ms: int) -> bool:
        """Take in one usage message. `handle` calls it too: this is the short way for what nearly all stimuli are.

        Returns whether it came too late, and counts nowhere.
        """
        state = self._state
        tenant = state.tenants.get(message.tenant_id) or self._admit(message.tenant_id, append_ms)
        if not self._seen.ids.add(message.tenant_id, message.event_id, append_ms):
            self.counts.duplicates += 1
            if isinstance(message, LlmCall | ToolCall):
                self._known_already(tenant, message, append_ms)
            return False
        self.counts.events += 1
        if append_ms > tenant.clock_ms:
            if tenant.timers and tenant.timers[0][0] <= append_ms:
                self._timers.pass_time(tenant, append_ms)
                tenant = state.tenants.get(message.tenant_id) or self._admit(message.tenant_id, append_ms)
            tenant.clock_ms = append_ms
        state.now_ms = tenant.clock_ms
        state.cause_event_id = message.event_id
        at_ms = message.ts_ms
        if at_ms > append_ms + AHEAD_MS:
            at_ms = append_ms + AHEAD_MS
        if tenant.clock_ms - at_ms > self._forgotten_ms:
            if tenant.clock_ms - at_ms > TOO_LATE_MS:
                is_set_aside = self._past(tenant, message, at_ms)
                state.cause_event_id = None
                return is_set_aside
            if isinstance(message, LlmCall | ToolCall):
                self._come_late(tenant, message, at_ms)
        run = self._runs.run(tenant, message, at_ms)
        if type(message) is LlmCall:  # isinstance would ask the metaclass
            self._llm_call(tenant, run, message, at_ms)
        elif type(message) is ToolCall:
            self._tool_call(tenant, run, message, at_ms)
        else:
            self._word_of_run(tenant, run, message, at_ms)
        if run.clock_ms >= run.record_ms:
            self._records.changed(tenant, run)
        if not run.dirty:
            state.touch(run if run.unit_id else tenant)  # one of them has to keep the clock
        if self._commands.lifted:
            self._timers.look_again()
        state.cause_event_id = None
        return False

    def _known(self, tenant_id: str, met_ms: int = 0) -> Tenant | None:
        """A tenant that is known, under the policy in force; something happens to it at `met_ms`, if that is known."""
        if tenant_id in self._state.waiting:
            return self._changes.follow(tenant_id, met_ms)
        return self._state.tenants.get(tenant_id)

    def _admit(self, tenant_id: str, append_ms: int) -> Tenant:
        """A tenant's first message: it is known from here on, or counts for all that are too many. Nothing is lost.

        Or its first one under another policy.
        """
        if (tenant := self._known(tenant_id, append_ms)) is not None:
            return tenant
        state = self._state
        tenants, limit = state.tenants, state.policy.header.max_tenants_per_partition
        known = len(tenants) + len(state.waiting) - (OVERFLOW_TENANT in tenants or OVERFLOW_TENANT in state.waiting)
        if known < limit or tenant_id == OVERFLOW_TENANT:
            tenant = state.new_tenant(tenant_id)
            tenant.look_after_silence(append_ms)
            return tenant
        overflow = tenants.get(OVERFLOW_TENANT) or self._admit(OVERFLOW_TENANT, append_ms)
        state.now_ms = max(overflow.clock_ms, append_ms)
        subject = tenant_in_hour(OVERFLOW_TENANT, state.now_ms)
        if self._incidents.find(overflow, TENANTS, subject.key) is None:
            finding = TENANTS.finding(known, limit, tenant_id, OVERFLOW_TENANT)
            self._incidents.note_and_publish(overflow, TENANTS, finding, subject, state.now_ms)
        return overflow

    def _llm_call(self, tenant: Tenant, run: Run, call: LlmCall, at_ms: int) -> None:
        route = self._runs.route(tenant, run, call)
        totals = self._totals.of(tenant, route, at_ms)
        cost_nanousd = self._prices.undisputed(call)
        if cost_nanousd is None:
            charge = self._prices.charge(call)
            cost_nanousd = charge.cost_nanousd
            if charge.problems:
                self._quality.charged(tenant, run, route, call, charge, at_ms)
        self._totals.model_call(tenant, run, totals, call, cost_nanousd)
        if call.attempt > 1:
            run.retried_nanousd += cost_nanousd
        self._counters.model_call(tenant, run, route, call, cost_nanousd, at_ms)
        self._ledger.charge(tenant, run, route, cost_nanousd, at_ms)
        if not route.is_attributed:
            self._quality.unattributed(tenant, route, call.run_id, cost_nanousd, at_ms)
        if tenant.commands:
            self._obedience.call_seen(tenant, run, call, cost_nanousd, at_ms)

    def _tool_call(self, tenant: Tenant, run: Run, call: ToolCall, at_ms: int) -> None:
        route = self._runs.route(tenant, run, call)
        totals = self._totals.of(tenant, route, at_ms)
        totals.tool_calls += 1
        if call.status == "error":
            totals.errors += 1
        if call.args_hash is None:
            self._quality.blind(tenant, route, totals, call.run_id)
        cost_nanousd = call.cost_nanousd or 0
        self._counters.tool_call(tenant, run, route, call, cost_nanousd, at_ms)
        if cost_nanousd:
            totals.cost_nanousd += cost_nanousd
            self._totals.break_down(tenant, totals, run.attributes, call, cost_nanousd)
            self._ledger.charge(tenant, run, route, cost_nanousd, at_ms)
            if not route.is_attributed:
                self._quality.unattributed(tenant, route, call.run_id, cost_nanousd, at_ms)
        if tenant.commands:
            self._obedience.call_seen(tenant, run, call, cost_nanousd, at_ms)

    def _word_of_run(self, tenant: Tenant, run: Run, message: UsageMessage, at_ms: int) -> None:
        """What a run says of itself besides its calls."""
        match message:
            case RunStarted():
                self._runs.started(tenant, run, message, at_ms)
            case RunFinished(status=status):
                self._runs.finished(tenant, run, status, at_ms)
            case Outcome():
                self._runs.outcome(tenant, run, message, at_ms)
            case CommandAck():
                self._obedience.acknowledge(tenant, message, at_ms)
                self._records.answered(tenant, run, message, at_ms)
        if at_ms > run.last_ms:
            run.last_ms = at_ms

    def _forged(self, tenant: Tenant, forged: CommandForged) -> None:
        """Tell of it, and say again what really stands: guards may wait for a word that they can believe."""
        now_ms = self._state.now_ms = tenant.clock_ms
        target = forged.target
        finding = FORGED_COMMAND.finding(tenant.tenant_id, target, forged.how)
        subject = tenant_in_hour(tenant.tenant_id, now_ms)
        self._incidents.note_and_publish(tenant, FORGED_COMMAND, finding, subject, now_ms)
        if not self._commands.repeat(tenant, target, forged.denial):
            self._commands.deny(tenant, target, forged.denial)

    def _past(self, tenant: Tenant, message: UsageMessage, at_ms: int) -> bool:
        """What happened more than a day ago is set aside, unless it is sent again to be booked. Returns whether."""
        charge = self._prices.charge(message) if isinstance(message, LlmCall) else None
        if message.backfill and is_bookable(message):
            self.counts.backfilled += 1
            self._backfill.book(tenant, message, charge, at_ms)
            self._timers.look_again()
            return False
        self.counts.too_late += 1
        tenant.stale_events += 1
        cost_nanousd = self._cost_of(message) if isinstance(message, LlmCall | ToolCall) else 0
        tenant.stale_nanousd = min(tenant.stale_nanousd + cost_nanousd, MAX_NANOUSD)
        self._quality.too_late(tenant, message, cost_nanousd)
        return True

    def _known_already(self, tenant: Tenant, call: LlmCall | ToolCall, append_ms: int) -> None:
        """A call does not count, as its id has; it may be another one all the same."""
        if has_the_id_of_another(tenant, call, append_ms, self.policy.header.max_live_runs_per_tenant):
            self._quality.copied(tenant, "reused_id", call, self._cost_of(call), append_ms)

    def _come_late(self, tenant: Tenant, call: LlmCall | ToolCall, at_ms: int) -> None:
        """A call counts of which nobody knows any more, by its id, whether it has counted before."""
        if may_be_sent_again(tenant, call, at_ms, self._forgotten_ms):
            self._quality.copied(tenant, "sent_again", call, self._cost_of(call), tenant.clock_ms)

    def _cost_of(self, call: LlmCall | ToolCall) -> int:
        return self._prices.charge(call).cost_nanousd if isinstance(call, LlmCall) else call.cost_nanousd or 0

    def _ticked(self, now_ms: int) -> None:
        tenants = self._state.tenants
        for tenant_id in sorted(tenant_id for tenant_id, one in tenants.items() if one.is_due(now_ms)):
            self._state.breathe()
            self._timers.pass_time(tenants[tenant_id], now_ms)

    def _at(self, tenant_id: str, append_ms: int) -> Tenant:
        """A tenant to which something happens that was appended then, with what falls due by then done."""
        tenant = self._ordered(tenant_id, append_ms)
        if append_ms > tenant.clock_ms:
            self._timers.pass_time(tenant, append_ms)
            tenant = self._ordered(tenant_id, append_ms)
            tenant.clock_ms = append_ms
            self._state.touch(tenant)
        self._state.now_ms = tenant.clock_ms
        return tenant

    def _ordered(self, tenant_id: str, append_ms: int) -> Tenant:
        """The tenant of an order; the word of a person makes it known, however many there are."""
        tenant = self._known(tenant_id, append_ms)
        if tenant is None:
            tenant = self._state.new_tenant(tenant_id)
            tenant.look_after_silence(append_ms)
        return tenant

    def _operator(self, message: OperatorMessage, append_ms: int) -> None:
        if not self._seen.ids.add(f"operator\0{message.tenant_id}", message.message_id, append_ms):
            self.counts.duplicates += 1
            return
        tenant = self._at(message.tenant_id, append_ms)
        self._state.cause_event_id = message.message_id
        match message:
            case Resume():
                self._orders.resume(tenant, message, append_ms)
            case Kill():
                self._orders.kill(tenant, message, append_ms)
            case Acknowledge(incident_id=incident_id) | Feedback(incident_id=incident_id, verdict="noise"):
                self._incidents.acknowledge(tenant, incident_id)
            case Feedback(incident_id=incident_id, verdict="planned"):
                self._incidents.acknowledge(tenant, incident_id)
                self._ledger.plan(tenant, incident_id)
            case LimitException(rule=rule, scope=scope, limit_nanousd=limit_nanousd, until_ms=until_ms):
                self._ledger.raise_limit(tenant, Raised(rule, scope, limit_nanousd, until_ms))
            case _:
                pass  # silences are for those who tell people, and praise for those who write the review
        self._timers.look_again()
        self._state.cause_event_id = None


def _forgotten_ms(policy: Policy) -> int:
    """How late a message may be and its id is still known from a first copy, or it counts nowhere."""
    return min(policy.header.dedup_hours * HOUR_MS, TOO_LATE_MS)
