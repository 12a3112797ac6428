"""What is known of a run while it lives, and of the sessions and run trees that runs belong to."""

from typing import Any, ClassVar, Literal

from models.state.call_history import Trail
from models.state.rows import Row
from schemas.usage import ATTRIBUTION, UNATTRIBUTED

UnitKind = Literal["run", "session", "run_tree"]
Counter = Literal["cost_nanousd", "calls", "tool_calls", "retries", "premium_calls", "duration_ms"]

NO_TRIP = 1 << 62
NO_TRIPS = (NO_TRIP,) * 5
MAX_NANOUSD = (1 << 63) - 1
"""The most that a row can hold. It lies above `NO_TRIP`, so that whoever gets there is woken, and cut off."""

Attributes = tuple[Any, ...]
"""A run's attribution in the order of `schemas.usage.ATTRIBUTION`, then its tags as sorted pairs or None."""
RouteKey = tuple[Any, ...]
"""A message's own attribution, its tags, and the model, provider and route of a call where scopes depend on them."""
NO_ATTRIBUTION: tuple[None, ...] = (None,) * len(ATTRIBUTION)
NO_ROUTE_KEY: RouteKey = (*NO_ATTRIBUTION, None, None, None, None)


class Unit(Row):
    """Counters of one run, session or run tree, and the values at which somebody wants to be woken.

    Trips are stored: some follow from what was usual when they were set, which a restart could not know.
    """

    __slots__ = (
        "calls", "calls_trip", "cost_nanousd", "cost_trip", "deadline_ms", "due_ms", "last_ms", "levels", "now_ms",
        "premium_calls", "premium_calls_trip", "retries", "retries_trip", "stamp", "started_ms", "tenant_id",
        "tool_calls", "tool_calls_trip", "unit_id",
    )  # fmt: skip
    unit_kind: ClassVar[UnitKind]

    def __init__(self, tenant_id: str, unit_id: str, started_ms: int) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.unit_id = unit_id
        self.cost_nanousd = 0
        self.calls = 0
        self.tool_calls = 0
        self.retries = 0
        self.premium_calls = 0
        self.started_ms = started_ms
        self.last_ms = started_ms
        self.now_ms = started_ms
        self.due_ms = 0
        self.levels: dict[str, float] | None = None
        self.stamp = 0
        """`Policy.stamp` of the policy that the trips were set by, 0 where they must be set."""
        self.clear_trips()

    def clear_trips(self) -> None:
        """Nobody wants to be woken."""
        self.cost_trip = NO_TRIP
        self.calls_trip = NO_TRIP
        self.tool_calls_trip = NO_TRIP
        self.retries_trip = NO_TRIP
        self.premium_calls_trip = NO_TRIP
        self.deadline_ms = NO_TRIP

    def lower_trip(self, counter: Counter, value: int) -> None:
        """Ask to be woken when `counter` reaches `value`, unless something wakes earlier."""
        match counter:
            case "cost_nanousd":
                self.cost_trip = min(self.cost_trip, value)
            case "calls":
                self.calls_trip = min(self.calls_trip, value)
            case "tool_calls":
                self.tool_calls_trip = min(self.tool_calls_trip, value)
            case "retries":
                self.retries_trip = min(self.retries_trip, value)
            case "premium_calls":
                self.premium_calls_trip = min(self.premium_calls_trip, value)
            case "duration_ms":
                self.deadline_ms = min(self.deadline_ms, self.started_ms + value)

    def value(self, counter: Counter) -> int:
        """The counter's present value. `duration_ms` is the time from the first message to now."""
        if counter == "duration_ms":
            return max(0, self.now_ms - self.started_ms)
        return int(getattr(self, counter))

    def told(self, rule: str) -> float:
        """The highest level of `rule` already told about this unit, 0 for none."""
        return self.levels.get(rule, 0.0) if self.levels else 0.0

    def tell(self, rule: str, level: float) -> None:
        """Remember that `level` of `rule` has been told."""
        if self.levels is None:
            self.levels = {}
        self.levels[rule] = level

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.unit_id)

    def _counters(self) -> tuple[Any, ...]:
        others = (
            self.calls_trip, self.tool_calls_trip, self.retries_trip, self.premium_calls_trip, self.deadline_ms
        )  # fmt: skip
        return (
            self.cost_nanousd, self.calls, self.tool_calls, self.retries, self.premium_calls, self.started_ms,
            self.last_ms, self.levels, self.stamp, self.cost_trip, None if others == NO_TRIPS else others,
        )  # fmt: skip

    def _read_counters(self, fields: tuple[Any, ...]) -> None:
        (
            self.cost_nanousd, self.calls, self.tool_calls, self.retries, self.premium_calls, self.started_ms,
            self.last_ms, self.levels, self.stamp, self.cost_trip, others,
        ) = fields  # fmt: skip
        (
            self.calls_trip, self.tool_calls_trip, self.retries_trip, self.premium_calls_trip, self.deadline_ms
        ) = others or NO_TRIPS  # fmt: skip
        self.now_ms = self.last_ms


class Group(Unit):
    """A session or a run tree: the sum of its runs, each event counted once."""

    __slots__ = ("members",)

    def __init__(self, tenant_id: str, unit_id: str, started_ms: int) -> None:
        super().__init__(tenant_id, unit_id, started_ms)
        self.members: set[str] = set()
        """Ids of its live runs."""

    def add(self, other: Unit) -> None:
        """Count what another unit has done so far as this one's, once."""
        self._add(other, 1)
        self.started_ms = min(self.started_ms, other.started_ms)
        self.last_ms = max(self.last_ms, other.last_ms)

    def move_to(self, group: "Group", run: "Run") -> None:
        """A run belongs to `group` instead: what it has done so far goes with it."""
        self._add(run, -1)
        group.add(run)
        if run.unit_id in self.members:
            self.members.remove(run.unit_id)
            group.members.add(run.unit_id)

    def _add(self, other: Unit, sign: int) -> None:
        self.cost_nanousd = min(self.cost_nanousd + sign * other.cost_nanousd, MAX_NANOUSD)
        self.calls += sign * other.calls
        self.tool_calls += sign * other.tool_calls
        self.retries += sign * other.retries
        self.premium_calls += sign * other.premium_calls

    def header(self) -> tuple[int, int]:
        return self.due_ms, 0

    def fields(self) -> tuple[Any, ...]:
        return (*self._counters(), sorted(self.members))

    @classmethod
    def read(cls, tenant_id: str, unit_id: str, due_ms: int, fields: tuple[Any, ...]) -> "Group":
        """A group as its row holds it."""
        group = cls(tenant_id, unit_id, 0)
        *counters, members = fields
        group._read_counters(tuple(counters))
        group.members = set(members)
        group.due_ms = due_ms
        return group


class Session(Group):
    """The longer dialogue that runs belong to."""

    __slots__ = ()
    kind = "session"
    unit_kind = "session"


class RunTree(Group):
    """A root run and all that descends from it."""

    __slots__ = ()
    kind = "tree"
    unit_kind = "run_tree"


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


def frozen(value: Any) -> Any:
    """Lists, as rows give them back, as the tuples they were."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


RunState = Literal["live", "idle", "finished"]
"""`idle`: taken for finished, but its counters are kept in case it goes on."""


class Run(Unit):
    """One execution of an agent."""

    __slots__ = (
        "attributes", "clock_ms", "declared_root", "input_tokens", "outcome", "output_tokens", "parent_run_id",
        "root_run_id", "route", "route_key", "session_id", "state", "stop_rule", "trail",
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
        self.outcome: str | None = None
        self.stop_rule: StopRule | None = None
        self.input_tokens = 0
        self.output_tokens = 0
        self.clock_ms = 0
        self.trail = Trail()
        self.route: Any = None
        self.route_key: RouteKey = NO_ROUTE_KEY

    def attribution(self) -> dict[str, str]:
        """What is known of whose spend it is: as its latest model call said, else as given when it started."""
        pairs = zip(ATTRIBUTION, self.route_key, self.attributes or NO_ATTRIBUTION, strict=False)  # tags come behind
        known = {name: own or inherited for name, own, inherited in pairs}
        return {name: value for name, value in known.items() if value and value != UNATTRIBUTED}

    def forget_route(self) -> None:
        """Other rules may apply from its next message on: its route and trips are to be worked out anew."""
        self.route = None
        self.stamp = 0

    def header(self) -> tuple[int, int]:
        return self.due_ms, self.clock_ms

    def fields(self) -> tuple[Any, ...]:
        return (
            *self._counters(), self.attributes, self.session_id, self.parent_run_id, self.root_run_id,
            self.declared_root, self.state, self.outcome, self.stop_rule and self.stop_rule.fields(),
            self.input_tokens, self.output_tokens, self.trail.to_row(),
            None if self.route_key == NO_ROUTE_KEY else self.route_key,
        )  # fmt: skip

    @classmethod
    def read(cls, tenant_id: str, unit_id: str, header: tuple[int, int], fields: tuple[Any, ...]) -> "Run":
        """A run as its row holds it."""
        run = cls(tenant_id, unit_id, 0)
        run._read_counters(fields[:11])
        (
            attributes, run.session_id, run.parent_run_id, run.root_run_id, run.declared_root, run.state, run.outcome,
            stop_rule, run.input_tokens, run.output_tokens, trail, route_key,
        ) = fields[11:]  # fmt: skip
        run.attributes = frozen(attributes)
        run.route_key = NO_ROUTE_KEY if route_key is None else frozen(route_key)
        run.stop_rule = StopRule(*stop_rule) if stop_rule else None
        run.trail = Trail.from_row(tuple(trail))
        run.due_ms, run.clock_ms = header
        return run
