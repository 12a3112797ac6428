"""What runs, sessions and run trees have in common: counters, values at which a rule wants to be woken, allowances."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple

from models.state.rows import MAX_INTEGER, Row
from models.state.units.context import Context

UnitKind = Literal["run", "session", "run_tree"]
Counter = Literal["cost_nanousd", "calls", "tool_calls", "retries", "premium_calls", "duration_ms"]

MOST_GRANTS: Final = 256
"""Allowances of one unit that are remembered, the newest."""
NO_TRIP: Final = 1 << 62
"""A trip that is never reached: more nano-dollars than the world has."""
NO_TRIPS: Final = (NO_TRIP,) * 5
MAX_NANOUSD: Final = MAX_INTEGER
"""Saturation bound of every sum of money. It lies above `NO_TRIP`, so that a saturated counter is still evaluated."""


class Used(NamedTuple):
    """Counters at one moment."""

    cost_nanousd: int
    calls: int
    tool_calls: int
    retries: int
    premium_calls: int
    at_ms: int


class Grant(NamedTuple):
    """What somebody allowed a stopped unit beyond a rule's limit: the rule acts again at the first of both ends."""

    counter: Counter
    up_to: int
    """Value of `counter`, from the unit's beginning, at which the rule acts again; `NO_TRIP` for no such end."""
    until_ms: int
    """0 for no such end."""
    who: str

    def holds(self, unit: "Unit", now_ms: int) -> bool:
        """Whether neither end is reached."""
        return unit.total(self.counter, now_ms) < self.up_to and not 0 < self.until_ms <= now_ms


class Unit(Row):
    """Counters of one run, session or run tree, and the values at which a rule wants to be woken.

    Counters only grow. What limits count is what was used since the last accepted output (`renewed`). Trips are
    values of the counters themselves; they are stored, because some follow from what was usual when they were set.
    """

    __slots__ = (
        "calls", "calls_trip", "cost_nanousd", "cost_trip", "deadline_ms", "due_ms", "grants", "last_ms", "now_ms",
        "premium_calls", "premium_calls_trip", "renewed", "retries", "retries_trip", "stamp", "started_ms",
        "tenant_id", "tool_calls", "tool_calls_trip", "unit_id",
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
        self.renewed: Used | None = None
        """The counters when an output was last accepted or edited."""
        self.grants: dict[str, Grant] | None = None
        """Rule and aspect, as `grant_key` joins them -> what an operator's resume allowed."""
        self.stamp = 0
        """`Policy.stamp` of the policy that the trips were set by, 0 where they must be set."""
        self.clear_trips()

    def clear_trips(self) -> None:
        """No rule wants to be woken."""
        self.cost_trip = NO_TRIP
        self.calls_trip = NO_TRIP
        self.tool_calls_trip = NO_TRIP
        self.retries_trip = NO_TRIP
        self.premium_calls_trip = NO_TRIP
        self.deadline_ms = NO_TRIP

    def lower_trip(self, counter: Counter, used: int) -> None:
        """Wake once so much of `counter` is used since the last accepted output, unless something wakes earlier."""
        # Without accepted outputs the limit's own number is kept: one for all units, not one more each.
        at = used if self.renewed is None else self.before(counter) + used
        match counter:
            case "cost_nanousd":
                self.cost_trip = min(self.cost_trip, at)
            case "calls":
                self.calls_trip = min(self.calls_trip, at)
            case "tool_calls":
                self.tool_calls_trip = min(self.tool_calls_trip, at)
            case "retries":
                self.retries_trip = min(self.retries_trip, at)
            case "premium_calls":
                self.premium_calls_trip = min(self.premium_calls_trip, at)
            case "duration_ms":
                self.wake_by(self.started_ms + at)

    def wake_by(self, at_ms: int) -> None:
        """Wake at that time, unless something wakes earlier."""
        self.deadline_ms = min(self.deadline_ms, at_ms)

    def wake_at_next_call(self) -> None:
        """Wake at the next call, of a model or a tool, whatever it costs."""
        self.calls_trip = self.tool_calls_trip = 0

    def total(self, counter: Counter, now_ms: int) -> int:
        """The counter from the unit's beginning. `duration_ms` is the time from the first message to `now_ms`."""
        if counter == "duration_ms":
            return max(0, now_ms - self.started_ms)
        return int(getattr(self, counter))

    def before(self, counter: Counter) -> int:
        """What of the counter belongs to accepted outputs."""
        if self.renewed is None:
            return 0
        if counter == "duration_ms":
            return max(0, self.renewed.at_ms - self.started_ms)
        return int(getattr(self.renewed, counter))

    def used(self, counter: Counter) -> int:
        """The counter since the last accepted output, as of `now_ms`."""
        return max(0, self.total(counter, self.now_ms) - self.before(counter))

    def renew(self, at_ms: int) -> None:
        """An output was accepted: what was used so far has bought it, and the allowance begins anew."""
        self.renewed = Used(self.cost_nanousd, self.calls, self.tool_calls, self.retries, self.premium_calls, at_ms)
        self.stamp = 0

    def grant(self, key: str) -> Grant | None:
        """What an operator allowed beyond the limit of that rule and aspect."""
        return None if self.grants is None else self.grants.get(key)

    def allow(self, key: str, grant: Grant) -> None:
        """Keep what an operator allowed, in place of an earlier grant."""
        others = [one for one in (self.grants or {}).items() if one[0] != key]
        self.grants = {**dict(others[1 - MOST_GRANTS :]), key: grant}
        self.stamp = 0

    def main_model(self) -> str | None:
        """The model that most of its cost went to so far; None where that is not known."""
        return None

    def dearest_contexts(self) -> dict[str, Context]:
        """Model -> its context with that model that cost most, as far as they are known."""
        return {}

    @property
    def unit_key(self) -> str:
        """What incidents about it are bound to: `type/id`."""
        return f"{self.unit_kind}/{self.unit_id}"

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id, self.unit_id)

    def memory(self) -> tuple[Any, ...]:
        """What is remembered of the unit while it sleeps, small: times as differences from the latest."""
        renewed = 0 if self.renewed is None else (*self.renewed[:5], self.last_ms - self.renewed.at_ms)
        grants = {key: tuple(grant) for key, grant in self.grants.items()} if self.grants else 0
        return (
            self.last_ms, self.last_ms - self.started_ms, self.now_ms - self.last_ms, self.cost_nanousd, self.calls,
            self.tool_calls, self.retries, self.premium_calls, renewed, grants,
        )  # fmt: skip

    def remember(self, fields: Sequence[Any]) -> None:
        """Take over what `memory` wrote. The trips are to be set anew."""
        (
            self.last_ms, age_ms, judged_ms, self.cost_nanousd, self.calls, self.tool_calls, self.retries,
            self.premium_calls, renewed, grants,
        ) = fields  # fmt: skip
        self.started_ms = self.last_ms - age_ms
        self.now_ms = self.last_ms + judged_ms
        self.renewed = Used(*[*renewed[:5], self.last_ms - renewed[5]]) if renewed else None
        self.grants = {key: Grant(*grant) for key, grant in grants.items()} if grants else None
        self.stamp = 0

    def trips(self) -> tuple[Any, ...]:
        """Trips and what they were set by, for the row of a unit that is awake."""
        others = (
            self.calls_trip, self.tool_calls_trip, self.retries_trip, self.premium_calls_trip, self.deadline_ms
        )  # fmt: skip
        return (self.stamp, self.cost_trip, None if others == NO_TRIPS else others)

    def read_trips(self, fields: Sequence[Any]) -> None:
        """Take over what `trips` wrote."""
        self.stamp, self.cost_trip, others = fields
        (
            self.calls_trip, self.tool_calls_trip, self.retries_trip, self.premium_calls_trip, self.deadline_ms
        ) = others or NO_TRIPS  # fmt: skip


def last_ms_of(fields: tuple[Any, ...]) -> int:
    """When the unit with these fields was last heard of."""
    return int(fields[0][0])


def grant_key(rule: str, aspect: str) -> str:
    """What a grant is kept under."""
    return f"{rule}:{aspect}" if aspect else rule
