"""Sessions and run trees: the sum of their runs, each event counted once."""

from typing import Any, Self

from models.state.rows import ASLEEP, PLAIN
from models.state.units.unit import MAX_NANOUSD, Unit, Used


class Group(Unit):
    """A session or a run tree. Its row does not grow with its runs: it counts them and names none."""

    __slots__ = ("asleep", "counted", "runs", "workflow")

    def __init__(self, tenant_id: str, unit_id: str, started_ms: int) -> None:
        super().__init__(tenant_id, unit_id, started_ms)
        self.runs = 0
        """How many runs have joined it."""
        self.workflow = ""
        """Of its first run: what it is compared with."""
        self.counted = False
        """Whether its cost has been counted as a finished one's."""
        self.asleep = False

    def join(self, unit: Unit, runs: int = 1) -> None:
        """Count what a run, or a whole group of `runs`, has done so far as this one's."""
        self._add(unit, 1)
        self.runs += runs
        if unit.renewed is not None and (self.renewed is None or self.renewed.at_ms < unit.renewed.at_ms):
            self.renewed = Used(*unit.renewed)
        self.started_ms = min(self.started_ms, unit.started_ms)
        self.last_ms = max(self.last_ms, unit.last_ms)

    def leave(self, unit: Unit) -> None:
        """A run belongs elsewhere: what it has done so far goes with it."""
        self._add(unit, -1)
        self.runs -= 1

    def _add(self, other: Unit, sign: int) -> None:
        self.cost_nanousd = min(self.cost_nanousd + sign * other.cost_nanousd, MAX_NANOUSD)
        self.calls += sign * other.calls
        self.tool_calls += sign * other.tool_calls
        self.retries += sign * other.retries
        self.premium_calls += sign * other.premium_calls

    def header(self) -> tuple[int, int, int]:
        return (0, 0, ASLEEP) if self.asleep else (self.due_ms, 0, PLAIN)

    def fields(self) -> tuple[Any, ...]:
        return (self.memory(), self.runs, self.workflow, self.counted, None if self.asleep else self.trips())

    @classmethod
    def read(cls, tenant_id: str, unit_id: str, due_ms: int, fields: tuple[Any, ...]) -> Self:
        """A group as its row holds it, asleep or awake; it is awake from here on."""
        group = cls(tenant_id, unit_id, 0)
        memory, group.runs, group.workflow, group.counted, trips = fields
        group.remember(memory)
        if trips:
            group.read_trips(trips)
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
