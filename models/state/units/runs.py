"""What is known of a run, awake and asleep."""

import sys
from typing import Any, Literal

from models.state.rows import ASLEEP, LIVE, PLAIN
from models.state.spend.results import Booked
from models.state.units.call_history import CallHistory
from models.state.units.route import Route
from models.state.units.unit import Counter, Unit
from schemas.usage import ATTRIBUTION, UNATTRIBUTED

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
NO_PROMISES: tuple[None, ...] = (None, None, None)
NO_ROUTE_KEY: RouteKey = ((*NO_ATTRIBUTION, None), NO_CALL)

RunState = Literal["live", "finished"]


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


def frozen(value: Any) -> Any:
    """Lists, as rows give them back, as the tuples they were."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


class Run(Unit):
    """One execution of an agent."""

    __slots__ = (
        "asleep", "attributes", "booked", "clock_ms", "counted", "declared_root", "ended_ms", "escalation",
        "expected_outcome", "expected_route", "history", "input_tokens", "outcome", "output_tokens", "parent_run_id",
        "retried_nanousd", "root_run_id", "route", "route_key", "session_id", "state", "stop_rule",
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
        self.input_tokens = 0
        self.output_tokens = 0
        self.clock_ms = 0
        self.history = CallHistory()
        self.route: Route | None = None
        self.route_key: RouteKey = NO_ROUTE_KEY
        self.asleep = False

    def attribution(self) -> dict[str, str]:
        """What is known of whose spend it is: as its latest model call said, else as given when it started."""
        pairs = zip(ATTRIBUTION, self.route_key[0], self.attributes or NO_ATTRIBUTION, strict=False)  # tags come behind
        known = {name: own or inherited for name, own, inherited in pairs}
        return {name: value for name, value in known.items() if value and value != UNATTRIBUTED}

    def forget_route(self) -> None:
        """Other rules may apply from its next message on: its route and trips are to be worked out anew."""
        self.route = None
        self.stamp = 0

    def header(self) -> tuple[int, int, int]:
        if self.asleep:
            return 0, 0, ASLEEP
        return self.due_ms, self.clock_ms, LIVE if self.state == "live" else PLAIN

    def fields(self) -> tuple[Any, ...]:
        root = 0 if self.root_run_id == self.unit_id else self.root_run_id
        stop_rule = self.stop_rule.fields() if self.stop_rule else 0
        attribution = (
            self.attributes or 0,
            0 if self.route_key == NO_ROUTE_KEY or self.route_key == (self.attributes, NO_CALL) else self.route_key,
        )
        known = (
            *self.memory(), self.state == "finished", self.last_ms - self.ended_ms if self.ended_ms else None,
            self.counted, self.outcome or 0, stop_rule, self.input_tokens, self.output_tokens, self.session_id or 0,
            self.parent_run_id or 0, root, self.declared_root, *attribution, self._promises(),
            min(self.retried_nanousd, self.cost_nanousd), self._bookings(),
        )  # fmt: skip
        return known if self.asleep else (*known, *self.trips(), self.history.to_row())

    def _promises(self) -> Any:
        """What it announced, and how it escalated; 0 for nothing."""
        promises = (self.expected_route, self.expected_outcome, self.escalation)
        return 0 if promises == NO_PROMISES else promises

    def _bookings(self) -> Any:
        """Where it is booked, small: as differences from what it is now; 0 for nowhere."""
        if self.booked is None:
            return 0
        hour_ms, cost_nanousd, retried_nanousd, books = self.booked
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
    def read(cls, tenant_id: str, unit_id: str, header: tuple[int, int, int], fields: tuple[Any, ...]) -> "Run":
        """A run as its row holds it, asleep or awake; it is awake from here on."""
        run = cls(tenant_id, unit_id, 0)
        run.remember(fields[:10])
        (
            finished, since_end_ms, run.counted, outcome, stop_rule, run.input_tokens, run.output_tokens, session_id,
            parent_run_id, root, run.declared_root, attributes, route_key, promises, run.retried_nanousd, bookings,
        ) = fields[10:26]  # fmt: skip
        run.state = "finished" if finished else "live"
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
        if len(fields) > 26:
            run.read_trips(fields[26:29])
            run.history = CallHistory.from_row(fields[29])
        run.due_ms, run.clock_ms, _ = header
        return run
