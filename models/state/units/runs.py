"""What is known of a run, awake and asleep."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from models.state.rows import ASLEEP, LIVE, PLAIN, read_fields, read_header
from models.state.spend.breakdown import NO_PORTION
from models.state.spend.results import Booked
from models.state.units.call_history import CallHistory
from models.state.units.context import Context
from models.state.units.route import Route
from models.state.units.unit import Counter, Unit
from schemas.usage import ATTRIBUTION, UNATTRIBUTED, LlmCall

MOST_CONTEXTS: Final = 8
"""Agents and models of one run that are followed, the dearest."""

NOT_SETTLED: Final = (0, 0, 0, 0)

Attributes = tuple[Any, ...]
"""A run's attribution in the order of `schemas.usage.ATTRIBUTION`, then its tags as sorted pairs or None."""
CallKey = tuple[str | None, ...]
"""Model, provider and route of a call where scopes depend on them. Its type has no fixed length: mypyc would take the
tuple apart, and it would no longer be the same object as `NO_CALL`.
"""
RouteKey = tuple[Attributes, CallKey]
"""A message's own attribution, and its call."""
NO_ATTRIBUTION: tuple[None, ...] = (None,) * len(ATTRIBUTION)
NO_CALL: CallKey = (None, None, None)
STATUSES: Final = ("completed", "failed", "cancelled", "killed", "idle")
"""How a run may end: as its `run_finished` says, or by silence."""
RECORD_AT_LEAST_MS: Final = 10_000
RECORD_AT_MOST_MS: Final = 30_000
"""A run that changes is recorded again once it has lived as long again, within these bounds: the records of a run are
few however long it lives, and what they say is never far behind what it has come to."""
SECOND_MS: Final = 1_000
RECORD_WAIT_MS: Final = 5_000
"""From then on its next message is waited for, so that its row need not be written for the record alone; so long."""
NO_PROMISES: tuple[None, ...] = (None, None, None)
NO_ROUTE_KEY: RouteKey = ((*NO_ATTRIBUTION, None), NO_CALL)

RunState = Literal["live", "finished"]
AGENT: Final = ATTRIBUTION.index("agent")
MOST_AGENTS: Final = 16
"""Agents of one run whose calls are remembered apart, beside its own. When another one calls, the one that has been
silent for longest is forgotten."""


class OrderSeen(NamedTuple):
    """A command that a run is under, as its records tell it."""

    about: str
    """What tells it from others that the run has been under."""
    spent_nanousd: int
    """What the run had cost when the command was given, or, given to more than the run, when it was first recorded."""
    acted: str | None = None
    acted_ms: int | None = None
    denied_by: str | None = None


class StopRule:
    """The limits a run declared for itself."""

    __slots__ = ("cap_nanousd", "max_duration_s", "max_retries", "max_tool_calls")

    def __init__(
        self, cap_nanousd: int | None, max_retries: int | None, max_tool_calls: int | None, max_duration_s: int | None
    ) -> None:
        self.cap_nanousd = cap_nanousd
        self.max_retries = max_retries
        self.max_tool_calls = max_tool_calls
        self.max_duration_s = max_duration_s

    def fields(self) -> tuple[int | None, ...]:
        """In the constructor's order."""
        return (self.cap_nanousd, self.max_retries, self.max_tool_calls, self.max_duration_s)

    def limits(self) -> dict[Counter, int]:
        """Counter -> limit, in the counters' own units."""
        limits: dict[Counter, int | None] = {
            "cost_nanousd": self.cap_nanousd,
            "retries": self.max_retries,
            "tool_calls": self.max_tool_calls,
            "duration_ms": None if self.max_duration_s is None else self.max_duration_s * 1000,
        }
        return {counter: limit for counter, limit in limits.items() if limit is not None}

    def stricter(self, other: "StopRule") -> "StopRule":
        """The smaller of both for each limit: a rule said twice never gets looser."""
        pairs = zip(self.fields(), other.fields(), strict=True)
        return StopRule(*(_smaller(mine, theirs) for mine, theirs in pairs))


def _smaller(mine: int | None, theirs: int | None) -> int | None:
    if mine is None or theirs is None:
        return theirs if mine is None else mine
    return min(mine, theirs)


def shared(attributes: Attributes) -> Attributes:
    """The same, made of strings that everybody who says them shares: runs are many and names few, and every message's
    attribution is compared with its run's.
    """
    *names, tags = attributes
    return (*[name and sys.intern(name) for name in names], tags)


def _cost_of(context: Context) -> int:
    return context.cost_nanousd


def frozen(value: Any) -> Any:
    """Lists, as rows give them back, as the tuples they were."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


class Run(Unit):
    """One execution of an agent."""

    __slots__ = (
        "agent", "agents", "asleep", "attributes", "booked", "clock_ms", "context", "counted", "declared_root",
        "ended_ms", "escalation", "expected_outcome", "expected_route", "history", "input_tokens", "last_model",
        "order", "others", "outcome", "output_tokens", "parent_run_id", "portion", "record_ms", "recorded_ms",
        "retried_nanousd", "root_run_id", "route", "route_key", "session_id", "settled", "state", "status",
        "stop_rule",
    )  # fmt: skip
    kind = "run"
    unit_kind = "run"

    def __init__(self, tenant_id: str, unit_id: str, started_ms: int) -> None:
        super().__init__(tenant_id, unit_id, started_ms)
        self.attributes: Attributes = ()
        self.session_id: str | None = None
        self.parent_run_id: str | None = None
        self.root_run_id: str = unit_id
        self.declared_root = False
        """Whether the run itself named its root, so that its guard knows the tree it is in."""
        self.state: RunState = "live"
        self.status: str | None = None
        """What its last `run_finished` said, or `idle`; None while it lives."""
        self.ended_ms = 0
        """When it last ended: calls made before then do not make it live again."""
        self.counted = False
        """Whether it has been counted as finished, and its cost as a finished run's."""
        self.outcome: str | None = None
        self.stop_rule: StopRule | None = None
        self.expected_route: str | None = None
        self.expected_outcome: str | None = None
        self.escalation: str | None = None
        """Why it went on with a premium model: the reason it gave last, empty without one. None: it did not."""
        self.retried_nanousd = 0
        """What its calls cost that were sent again."""
        self.booked: Booked | None = None
        """Where it stands among what finished runs have come to."""
        self.order: OrderSeen | None = None
        """The command that its last record says stands on it."""
        self.recorded_ms = 0
        """When its last record was written, 0 if none was since it woke. What has changed since came later."""
        self.record_ms = 0
        """From when on its next message has another one written: 0 while nothing has changed since the last one."""
        self.last_model: tuple[str, int] | None = None
        """Model and context, in tokens, of before it slept."""
        self.portion = NO_PORTION
        """Where the spend of its latest model call is counted."""
        self.input_tokens = 0
        self.output_tokens = 0
        self.context: Context | None = None
        """Of the last model call. Contexts are forgotten while it sleeps: who wakes begins a new one."""
        self.others: tuple[Context, ...] = ()
        """Those of its other agents and models."""
        self.settled = NOT_SETTLED
        """Calls, input, output and cost that are in the sums of its contexts, or in none: what tools cost."""
        self.clock_ms = 0
        self.history = CallHistory()
        """Of the calls of `agent`."""
        self.agent: str | None = None
        """Whoever made the run's first call; None for those that name nobody."""
        self.agents: dict[str, CallHistory] | None = None
        """Of its other agents, by name; of those that name nobody, where somebody named was first, under none."""
        self.route: Route | None = None
        self.route_key: RouteKey = NO_ROUTE_KEY
        self.asleep = False

    def attribution(self) -> dict[str, str]:
        """What is known of whose spend it is: as its latest model call said, else as given when it started."""
        pairs = zip(ATTRIBUTION, self.route_key[0], self.attributes or NO_ATTRIBUTION, strict=False)  # tags come behind
        known = {name: own or inherited for name, own, inherited in pairs}
        return {name: value for name, value in known.items() if value and value != UNATTRIBUTED}

    def told(self, place: int) -> str | None:
        """One field of its attribution, by its place in `ATTRIBUTION`."""
        told = self.route_key[0][place] or (self.attributes and self.attributes[place])
        return None if not told or told == UNATTRIBUTED else str(told)

    def tags(self) -> dict[str, str] | None:
        """Its tags: those of its latest model call before those given when it started."""
        own, given = self.route_key[0][-1], self.attributes[-1] if self.attributes else None
        return {**dict(given or ()), **dict(own or ())} if own or given else None

    def contexts(self) -> tuple[Context, ...]:
        """All its contexts, the one of the last call first."""
        return self.others if self.context is None else (self.context, *self.others)

    def settle(self) -> None:
        """Bring the sums of the context of the last call up to date with the run's."""
        calls, input_tokens, output_tokens, cost_nanousd = self.settled
        context = self.context
        if context is not None:
            context.calls += self.calls - calls
            context.input_tokens += self.input_tokens - input_tokens
            context.output_tokens += self.output_tokens - output_tokens
            context.cost_nanousd += self.cost_nanousd - cost_nanousd
        self.settled = (self.calls, self.input_tokens, self.output_tokens, self.cost_nanousd)

    def leave_out(self, cost_nanousd: int) -> None:
        """A cost that is the run's and no context's."""
        calls, input_tokens, output_tokens, settled_nanousd = self.settled
        self.settled = (calls, input_tokens, output_tokens, settled_nanousd + cost_nanousd)

    def turn_to(self, call: LlmCall, floors: tuple[int, int]) -> Context:
        """The context of a call that is not the last one's and is not counted in the run yet. Beyond `MOST_CONTEXTS`
        others the cheapest is forgotten. `floors` as in `Context.of`.
        """
        last, others = self.context, self.others
        if last is not None:
            self.settle()
        for place, other in enumerate(others):
            if other.model == call.model and other.agent == call.agent:
                if last is not None:
                    self.others = (*others[:place], last, *others[place + 1 :])
                self.context = other
                return other
        if last is not None:
            others = (*others, last)
            if len(others) > MOST_CONTEXTS:
                cheapest = min(others, key=_cost_of)
                others = tuple([one for one in others if one is not cheapest])
        self.others = others
        self.context = Context.of(call, floors)
        return self.context

    def dearest_contexts(self) -> dict[str, Context]:
        self.settle()
        if self.context is not None and not self.others:
            return {self.context.model: self.context}
        dearest: dict[str, Context] = {}
        for context in self.contexts():
            known = dearest.get(context.model)
            if known is None or context.cost_nanousd > known.cost_nanousd:
                dearest[context.model] = context
        return dearest

    def main_model(self) -> str | None:
        if self.context is not None and not self.others:
            return self.context.model
        self.settle()
        costs: dict[str, int] = {}
        for context in self.contexts():
            costs[context.model] = costs.get(context.model, 0) + context.cost_nanousd
        return max(costs, key=lambda model: costs[model], default=None)

    def is_recorded(self) -> bool:
        """Whether nothing has changed since its last record."""
        return self.recorded_ms > 0 and self.clock_ms <= self.recorded_ms

    def late_ms(self) -> int:
        """How long after it happened its latest message came: its own clock is behind ours by so much."""
        return max(0, self.clock_ms - self.last_ms)

    def next_record_ms(self) -> int:
        """The earliest time of its next record."""
        lived_ms = self.recorded_ms - self.started_ms
        return self.recorded_ms + max(RECORD_AT_LEAST_MS, min(2 * lived_ms, RECORD_AT_MOST_MS))

    def remember_model(self) -> None:
        """Keep what its records say of its contexts, which are forgotten now."""
        if self.context is not None:
            self.last_model = (self.main_model() or self.context.model, self.context.tokens)

    def record_due_ms(self) -> int:
        """When its next record is written though no message has come: at a full second, as those of others."""
        return -(-(self.next_record_ms() + RECORD_WAIT_MS) // SECOND_MS) * SECOND_MS

    def forget_route(self) -> None:
        """Other rules may apply from its next message on: its route and trips are to be worked out anew."""
        self.route = None
        self.stamp = 0

    def history_of(self, agent: str | None) -> CallHistory:
        """What is remembered of the calls that name this agent, or none: nobody's calls hide another's."""
        own = self.attributes[AGENT] if self.attributes else None
        agent = agent and sys.intern(agent)  # agents are few and runs many
        name = agent or own or ""
        if name == (self.agent or own or ""):
            self.agent = agent  # the next call most likely names it, or does not, as this one
            return self.history
        agents = self.agents
        if agents is not None and (history := agents.get(name)) is not None:
            return history
        if self.agent is None and self.history.is_empty:
            self.agent = name
            return self.history
        if agents is None:
            agents = self.agents = {}
        elif len(agents) >= MOST_AGENTS:
            del agents[min(agents, key=lambda other: agents[other].last_ms)]
        history = agents[name] = CallHistory()
        return history

    def histories(self) -> Iterator[CallHistory]:
        """What is remembered of the calls of each of its agents."""
        yield self.history
        yield from (self.agents or {}).values()

    def renew(self, at_ms: int) -> None:
        super().renew(at_ms)
        self.forget_finishes()

    def forget_finishes(self) -> None:
        """What was finished so far was taken: by an accepted output, or by whoever goes on with the run."""
        for history in self.histories():
            history.finishes = None

    def header(self) -> tuple[int, int, int]:
        if self.asleep:
            return 0, 0, ASLEEP
        return self.due_ms, self.clock_ms, LIVE if self.state == "live" else PLAIN

    def fields(self) -> tuple[Any, ...]:
        return (self.memory(), self._known(), None if self.asleep else self._watched())

    def _known(self) -> tuple[Any, ...]:
        """What is kept of it beside its counters, as long as it is kept at all; 0 for nothing."""
        own, call = self.route_key
        attributes = self.attributes
        is_as_given = call == NO_CALL and (own == attributes or own == NO_ROUTE_KEY[0])
        status = 0 if self.status is None else STATUSES.index(self.status) + 1
        return (
            self.session_id or 0, attributes or 0, 0 if is_as_given else self.route_key, self.input_tokens,
            self.output_tokens, self.parent_run_id or 0, 0 if self.root_run_id == self.unit_id else self.root_run_id,
            self.declared_root, 0 if self.stop_rule is None else self.stop_rule.fields(), self._promises(),
            status, self.last_ms - self.ended_ms if self.ended_ms else None, self.counted,
            self.outcome or 0, min(self.retried_nanousd, self.cost_nanousd),
            0 if self.booked is None else self._bookings(self.booked), self.order or 0, self.last_model or 0,
        )  # fmt: skip

    def _watched(self) -> tuple[Any, ...]:
        """What rules go by while it is awake."""
        history, agents = self.history, self.agents
        return (
            self.trips(), 0 if history.is_empty else history.to_row(), self._contexts_row(), self.agent or 0,
            0 if not agents else [(agent, other.to_row()) for agent, other in agents.items()],
            self.clock_ms - self.recorded_ms if self.recorded_ms else None,
        )  # fmt: skip

    def _contexts_row(self) -> tuple[Any, ...] | int:
        """What of a run that is awake is known of its contexts."""
        settled = 0 if self.settled is NOT_SETTLED else self.settled
        context = self.context
        if context is None:
            return settled and (settled,)
        if self.others:
            return (settled, *[context.to_row() for context in self.contexts()])
        return (settled, context.to_row())

    def _read_contexts(self, row: Sequence[Any]) -> None:
        if not row:
            return
        if row[0]:
            calls, input_tokens, output_tokens, cost_nanousd = row[0]
            self.settled = (calls, input_tokens, output_tokens, cost_nanousd)
        contexts = [Context.from_row(context) for context in row[1:]]
        if contexts:
            self.context = contexts[0]
            self.others = tuple(contexts[1:])

    def _promises(self) -> Any:
        """What it announced, and how it escalated; 0 for nothing."""
        promises = (self.expected_route, self.expected_outcome, self.escalation)
        return 0 if promises == NO_PROMISES else promises

    def _bookings(self, booked: Booked) -> Any:
        """Where it is booked, small: as differences from what it is now."""
        hour_ms, cost_nanousd, retried_nanousd, books = booked
        own = self.attribution().get("workflow")
        return (
            self.last_ms - hour_ms, self.cost_nanousd - cost_nanousd, retried_nanousd,
            [(book, 0 if workflow == own else workflow, value, dear) for book, workflow, value, dear in books],
        )  # fmt: skip

    def _read_bookings(self, bookings: Any) -> None:
        if not bookings:
            return
        since_ms, since_nanousd, retried_nanousd, books = bookings
        own = self.attribution().get("workflow", "")
        kept = tuple((book, own if workflow == 0 else workflow, value, dear) for book, workflow, value, dear in books)
        self.booked = Booked(self.last_ms - since_ms, self.cost_nanousd - since_nanousd, retried_nanousd, kept)

    @classmethod
    def read(cls, tenant_id: str, unit_id: str, row: bytes) -> "Run":
        """A run as the value of its row holds it, asleep or awake; it is awake from here on."""
        run = cls(tenant_id, unit_id, 0)
        memory, known, watched = read_fields(row)
        run.remember(memory)
        (
            session_id, attributes, route_key, run.input_tokens, run.output_tokens, parent_run_id, root,
            run.declared_root, stop_rule, promises, status, since_end_ms, run.counted, outcome, run.retried_nanousd,
            bookings, order, last_model,
        ) = known  # fmt: skip
        run.state = "finished" if status else "live"
        run.status = STATUSES[status - 1] if status else None
        run.order = OrderSeen(*order) if order else None
        run.last_model = (last_model[0], last_model[1]) if last_model else None
        run.ended_ms = 0 if since_end_ms is None else run.last_ms - since_end_ms
        run.outcome = outcome or None
        run.stop_rule = StopRule(*stop_rule) if stop_rule else None
        run.session_id = session_id or None
        run.parent_run_id = parent_run_id or None
        run.root_run_id = root or unit_id
        run.attributes = shared(frozen(attributes)) if attributes else ()
        run.route_key = frozen(route_key) if route_key else NO_ROUTE_KEY
        if promises:
            run.expected_route, run.expected_outcome, run.escalation = promises
        run._read_bookings(bookings)
        if watched:
            trips, history, contexts, agent, agents, since_record_ms = watched
            run.read_trips(trips)
            run.history = CallHistory.from_row(history) if history else CallHistory()
            run._read_contexts(contexts)
            run.agent = agent or None
            run.agents = {agent: CallHistory.from_row(row) for agent, row in agents} if agents else None
        else:
            run.settle()  # what it was before it slept is in no context
        run.due_ms, run.clock_ms, _ = read_header(row)
        if watched and since_record_ms is not None:
            run.recorded_ms = run.clock_ms - since_record_ms
            run.record_ms = 0 if run.is_recorded() else run.next_record_ms()
        return run
