"""The engine: what happens goes in, what to publish comes out. No clock, no I/O; time arrives in the messages.

One engine owns one partition. `handle` is the only way to change its state. Results do not depend on how the stream is
cut into batches: every message is taken in order, time moves with the messages, and what falls due on the way is
done at its own time, before the message that passes it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from models.commands.commands import Brakes
from models.effects import Effect
from models.incidents.incidents import Incidents
from models.prices.book import PriceBook
from models.rules.policy import Policy
from models.runs.registry import Lifecycle
from models.runs.watch import Watch
from models.spend.ledger import Ledger, Route
from models.state.partition import PartitionState
from models.state.restore import restore_row
from models.state.runs import MAX_NANOUSD, Run
from models.state.seen_rows import SeenRows
from models.state.tenant import Tenant
from models.stimuli import OperatorSeen, PolicyChanged, RecordRefused, Stimulus, Ticked, UsageSeen
from schemas.operator import Acknowledge, Feedback, LimitException, OperatorMessage, Resume
from schemas.usage import CommandAck, LlmCall, Outcome, RunFinished, RunStarted, ToolCall, UsageMessage

AHEAD_MS = 5 * 60_000
"""How far a message's own time may lie after its append."""
TOO_LATE_MS = 24 * 3_600_000
"""How late a message may be and still count in its own bucket."""


class Counts:
    """What the engine has done, for metrics and scorecards."""

    __slots__ = ("duplicates", "events", "refused", "too_late")

    def __init__(self) -> None:
        self.events = 0
        self.duplicates = 0
        self.too_late = 0
        self.refused = 0


class Engine:
    """Decides for one partition."""

    def __init__(self, policy: Policy) -> None:
        self._state = PartitionState(policy)
        self._incidents = Incidents(self._state)
        self._brakes = Brakes(self._state, self._incidents)
        self._ledger = Ledger(self._state, self._incidents, self._brakes)
        self._watch = Watch(self._state, self._incidents, self._brakes)
        self._lifecycle = Lifecycle(self._state, self._incidents, self._brakes, self._ledger, self._watch)
        self._prices = PriceBook()
        self._seen = SeenRows()
        self._handlers: dict[type[UsageMessage], Callable[[Tenant, Run, Any, int], None]] = {
            LlmCall: self._llm_call,
            ToolCall: self._tool_call,
            RunStarted: self._lifecycle.started,
            RunFinished: lambda tenant, run, end, at_ms: self._lifecycle.finished(tenant, run, end.status, at_ms),
            Outcome: self._lifecycle.outcome,
            CommandAck: lambda tenant, _, ack, at_ms: self._brakes.acknowledge(tenant, ack, at_ms),
        }
        self.counts = Counts()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._state.policy

    def handle(self, stimulus: Stimulus) -> None:
        """Take in one thing that happened. What it leads to is collected by `take_effects` and `take_rows`."""
        if type(stimulus) is UsageSeen:  # nearly all are; a match statement would cost more than the dispatch
            self._usage(stimulus.message, stimulus.append_ms)
            return
        match stimulus:
            case Ticked(now_ms):
                self._ticked(now_ms)
            case RecordRefused(letter):
                self.counts.refused += 1
                self._state.publish(Effect("usage.dlq.v1", letter.key or "", letter))
            case OperatorSeen(message, append_ms):
                self._operator(message, append_ms)
            case PolicyChanged(policy):
                tracked = self._state.policy.tracks
                self._state.policy = policy
                self._lifecycle.policy_changed(tracked)
                self._ledger.policy_changed()

    def take_effects(self) -> list[Effect]:
        """What is to be published, in order, since the last call."""
        return self._state.take_effects()

    def take_rows(self) -> list[tuple[bytes, bytes | None]]:
        """Changelog records of what has changed since the last call; None deletes a row."""
        rows = self._state.take_rows()
        seen_rows, change = self._seen.take()
        self._state.row_sum = (self._state.row_sum + change) % 2**64
        return rows + seen_rows

    @property
    def has_effects(self) -> bool:
        """Whether `take_effects` has anything to give."""
        return bool(self._state.effects)

    @property
    def has_changed(self) -> bool:
        """Whether `take_effects` or `take_rows` has anything to give."""
        return bool(self._state.dirty or self._state.effects)

    def settle(self) -> None:
        """Forget which rows have changed: for a run that writes no changelog."""
        self._state.settle()
        self._seen.ids.take_new()

    @property
    def digest(self) -> int:
        """The proof of the state: the sum of the digests of all rows taken so far, modulo 2**64."""
        return self._state.row_sum

    def restore(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over the rows of a changelog, the newest of each key, in any order; once, before anything else."""
        for key, value in rows:
            self._state.row_sum = (self._state.row_sum + restore_row(self._state, self._seen, key, value)) % 2**64
        for tenant in self._state.tenants.values():
            tenant.timers.sort()

    def _tenant(self, tenant_id: str) -> Tenant:
        tenant = self._state.tenants.get(tenant_id)
        if tenant is None:
            tenant = self._state.tenants[tenant_id] = Tenant(tenant_id)
        return tenant

    def _usage(self, message: UsageMessage, append_ms: int) -> None:
        tenant = self._state.tenants.get(message.tenant_id) or self._tenant(message.tenant_id)
        if not self._seen.ids.add(message.tenant_id, message.event_id, append_ms):
            self.counts.duplicates += 1
            return
        self.counts.events += 1
        if append_ms > tenant.clock_ms:
            if tenant.timers and tenant.timers[0][0] <= append_ms:
                self._pass_time(tenant, append_ms)
            tenant.clock_ms = append_ms
        self._state.now_ms = tenant.clock_ms
        self._state.cause_event_id = message.event_id
        at_ms = min(message.ts_ms, append_ms + AHEAD_MS)
        if tenant.clock_ms - at_ms > TOO_LATE_MS:
            self._too_late(tenant, message)
            return
        run = self._lifecycle.run(tenant, message, at_ms)
        self._handlers[type(message)](tenant, run, message, at_ms)
        if not run.dirty:
            self._state.touch(run if run.unit_id else tenant)  # one of them has to keep the clock
        self._state.cause_event_id = None

    def _llm_call(self, tenant: Tenant, run: Run, call: LlmCall, at_ms: int) -> None:
        route = self._lifecycle.route(tenant, run, call)
        totals = self._ledger.totals(tenant, route, at_ms)
        cost_nanousd = call.cost_nanousd
        if cost_nanousd is None:
            cost_nanousd = self._price(tenant, route, call, at_ms)
        totals.cost_nanousd += cost_nanousd
        totals.calls += 1
        totals.input_tokens += call.input_tokens
        totals.output_tokens += call.output_tokens
        if call.attempt > 1:
            totals.retries += 1
        if call.status == "error":
            totals.errors += 1
        run.input_tokens += call.input_tokens
        run.output_tokens += call.output_tokens
        self._watch.model_call(tenant, run, route, call, cost_nanousd, at_ms)
        self._ledger.charge(tenant, run, route, cost_nanousd, at_ms)
        if tenant.brakes:
            self._brakes.call_seen(tenant, run, call, at_ms)

    def _tool_call(self, tenant: Tenant, run: Run, call: ToolCall, at_ms: int) -> None:
        route = self._lifecycle.route(tenant, run, call)
        totals = self._ledger.totals(tenant, route, at_ms)
        totals.tool_calls += 1
        if call.status == "error":
            totals.errors += 1
        cost_nanousd = call.cost_nanousd or 0
        self._watch.tool_call(tenant, run, route, call, cost_nanousd, at_ms)
        if cost_nanousd:
            totals.cost_nanousd += cost_nanousd
            self._ledger.charge(tenant, run, route, cost_nanousd, at_ms)
        if tenant.brakes:
            self._brakes.call_seen(tenant, run, call, at_ms)

    def _price(self, tenant: Tenant, route: Route, call: LlmCall, at_ms: int) -> int:
        """The computed cost of a call whose source gave none; unknown stays loud, and counts as policy says."""
        priced = self._prices.cost(call)
        if priced is not None:
            return priced.cost_nanousd
        return self._watch.unpriced(tenant, route, call, at_ms)

    def _too_late(self, tenant: Tenant, message: UsageMessage) -> None:
        self.counts.too_late += 1
        tenant.stale_events += 1
        if isinstance(message, LlmCall | ToolCall):
            tenant.stale_nanousd = min(tenant.stale_nanousd + (message.cost_nanousd or 0), MAX_NANOUSD)
        self._state.touch(tenant)

    def _ticked(self, now_ms: int) -> None:
        tenants = self._state.tenants
        for tenant_id in sorted(tenant_id for tenant_id, one in tenants.items() if one.is_due(now_ms)):
            self._pass_time(tenants[tenant_id], now_ms)

    def _pass_time(self, tenant: Tenant, now_ms: int) -> None:
        """Do what falls due up to `now_ms`, each at its own time."""
        while (timer := tenant.next_timer(now_ms)) is not None:
            due_ms, kind, key = timer
            self._state.now_ms = max(due_ms, tenant.clock_ms)
            match kind:
                case "incident":
                    self._incidents.due(tenant, key[0], due_ms)
                case "brake":
                    self._brakes.due(tenant, key[0], key[1], due_ms)  # type: ignore[arg-type]  # only target types are set
                case "totals":
                    self._ledger.totals_due(tenant, key[0], int(key[1]), due_ms)
                case _:
                    self._lifecycle.due(tenant, kind, key[0], due_ms)

    def _operator(self, message: OperatorMessage, append_ms: int) -> None:
        if not self._seen.ids.add(f"operator\0{message.tenant_id}", message.message_id, append_ms):
            self.counts.duplicates += 1
            return
        tenant = self._tenant(message.tenant_id)
        if append_ms > tenant.clock_ms:
            self._pass_time(tenant, append_ms)
            tenant.clock_ms = append_ms
            self._state.touch(tenant)
        self._state.now_ms = tenant.clock_ms
        self._state.cause_event_id = message.message_id
        match message:
            case Resume(target=target):
                why = f"{message.who}: {message.why}"
                self._brakes.release(tenant, target.type, target.id, why, append_ms, message.ts_ms)
            case Acknowledge(incident_id=incident_id) | Feedback(incident_id=incident_id, verdict="noise"):
                self._incidents.acknowledge(tenant, incident_id)
            case Feedback(incident_id=incident_id, verdict="planned"):
                self._incidents.acknowledge(tenant, incident_id)
                self._ledger.plan(tenant, incident_id)
            case LimitException():
                self._ledger.raise_limit(tenant, message)
            case _:
                pass  # silences are for those who tell people, and praise for those who write the review
        self._state.cause_event_id = None
