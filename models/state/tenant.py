"""Everything that is known of one tenant: its clock, its runs, its scopes, and what is due when."""

from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from models.commands.held import HeldCommand
from models.commands.standing import STRENGTH, StandingCommand, target_of
from models.incidents.incident import Incident
from models.state.data_quality import DataQuality
from models.state.rows import ASLEEP_HEADER, HEADER, LIVE, Row, row_digest, row_key
from models.state.spend.breakdown import HourShares, KnownNames, Names
from models.state.spend.cohort import Cohort
from models.state.spend.escalations import Escalations
from models.state.spend.results import ResultBook
from models.state.spend.scopes import Scope
from models.state.spend.totals import KEEP_MS, HourTotals
from models.state.units.asleep import AsleepRows
from models.state.units.failing import FailingCalls
from models.state.units.groups import RunTree, Session
from models.state.units.route import Route
from models.state.units.runs import Run
from models.state.units.unit import UnitKind
from schemas.control import Target, TargetType
from schemas.duration import DAY_MS
from schemas.policy import Action

MOST_RAISED: Final = 999
"""Exceptions of one tenant that are remembered beside the newest."""
MOST_RAISED_NAMES: Final = 32_768
"""Characters that their rules and scopes have together: they stand in the tenant's row."""


class Raised(NamedTuple):
    """A budget's limit that an operator has raised for a while."""

    rule: str
    scope: str
    """Its values as in the policy's overrides."""
    limit_nanousd: int
    until_ms: int


OVERFLOW_TENANT: Final = "spendfuse/overflow"
"""Stands for all tenants beyond a partition's limit: their spend counts here, and none of their runs is watched."""
FORGET_MS: Final = 45 * DAY_MS
"""After so long a silence nothing that a limit counts can be left: a month is over, and a run is remembered for at most
35 days, after a week in which it was taken for live.
"""

ROW_KINDS: Final[Mapping[UnitKind, str]] = {"run": Run.kind, "session": Session.kind, "run_tree": RunTree.kind}
"""Kind of unit -> kind of its rows."""

Timer = tuple[int, str, tuple[str, ...]]
"""due_ms, kind of row, its key within the tenant. Ties fall in the order of the names: never by chance.

An incident's is `update`, the last of them: what ends at the same moment is not reminded of first."""


class Tenant(Row):
    """A tenant's time is its own: it moves with the tenant's messages, so that partitioning changes nothing."""

    __slots__ = (
        "asleep", "clock_ms", "cohorts", "command_ids", "commanded", "commands", "escalations", "failing", "held",
        "held_due_ms", "incidents", "kill_times_ms", "live_runs", "names", "ordered_ms", "orders_due_ms", "overflow",
        "quality", "raised", "recorded_at", "results", "route_bytes", "routes", "runs", "scope_ids", "scopes",
        "sessions", "shares", "sleep_due_ms", "stale_events", "stale_nanousd", "stops", "tenant_id", "timers",
        "totals", "trees", "unit_incidents",
    )  # fmt: skip
    kind = "tenant"

    def __init__(self, tenant_id: str) -> None:
        super().__init__()
        self.tenant_id = tenant_id
        self.clock_ms = 0
        """The latest append time among its messages."""
        self.runs: dict[str, Run | bytes] = {}
        """Runs that are awake. Restored ones stay bytes until they are touched."""
        self.live_runs = 0
        """How many of them have not ended."""
        self.sessions: dict[str, Session] = {}
        self.trees: dict[str, RunTree] = {}
        self.failing: dict[tuple[str, ...], FailingCalls] = {}
        """Key of a session or run tree -> the calls that fail in its runs, while any do."""
        self.asleep = AsleepRows(beginning=ASLEEP_HEADER)
        """Runs, sessions and run trees that have been silent for long."""
        self.sleep_due_ms = 0
        """When the oldest of them may be forgotten, 0 while nothing waits for that."""
        self.scopes: dict[tuple[str, ...], Scope] = {}
        self.scope_ids: dict[str, list[Scope]] = {}
        """The same by id, as far as they were asked for since the last one came."""
        self.totals: dict[tuple[str, ...], HourTotals] = {}
        self.shares: dict[tuple[str, ...], HourShares] = {}
        """Key of the totals -> what they are broken down to."""
        self.names: dict[Names, KnownNames] = {}
        """The attributions that have a number."""
        self.cohorts: dict[str, Cohort] = {}
        self.results: dict[tuple[str, str, str], ResultBook] = {}
        """What finished runs have come to."""
        self.escalations: dict[str, Escalations] = {}
        """Workflow -> its premium calls of today that were not there from the start."""
        self.incidents: dict[str, Incident] = {}
        """Open ones, and those that are over but could be found again."""
        self.unit_incidents: dict[str, set[str]] = {}
        """`Unit.unit_key` -> ids of its incidents."""
        self.commands: dict[tuple[TargetType, str], StandingCommand] = {}
        self.commanded: set[str] = set()
        """Ids that some command is about: a call whose ids are not among them is free, at the price of a look."""
        self.command_ids: dict[str, StandingCommand] = {}
        """Id of a target's last command -> that command."""
        self.held: dict[tuple[TargetType, str], HeldCommand] = {}
        """Commands that the blast-radius limit holds back."""
        self.held_due_ms = 0
        """When the limit may allow the next of them, 0 while there is none."""
        self.ordered_ms = 0
        """When the first of the commands came that not all records of runs tell of yet, 0 while all do."""
        self.orders_due_ms = 0
        """When the next of those records are written."""
        self.kill_times_ms: list[int] = []
        """Of the last minute, for the blast-radius limit."""
        self.stops: dict[str, list[tuple[int, str]]] = {}
        """Rule and workflow -> when its last runs were stopped and which, the newest three; hashes stand for names."""
        self.quality = DataQuality()
        """What its records have wrong today."""
        self.stale_events = 0
        self.stale_nanousd = 0
        """What arrived more than a day late: counted, not alerted."""
        self.raised: list[Raised] = []
        """Exceptions that operators ordered, scopes to come included."""
        self.overflow: Run | None = None
        """Stands for all runs beyond the limit of live runs."""
        self.timers: list[Timer] = []
        self.recorded_at: dict[int, list[Run]] = {}
        """Full second -> runs to be looked at then, unless something looks earlier: most are not what they were by
        then, and one timer stands for all of them."""
        self.routes: dict[Any, Route] = {}
        self.route_bytes = 0
        """Of memory that they take, about."""

    def raise_limit(self, exception: Raised, now_ms: int) -> None:
        """Remember an exception until its end, in place of an earlier one about the same."""
        about = (exception.rule, exception.scope)
        valid = [one for one in self.raised if one[:2] != about and now_ms < one.until_ms + KEEP_MS]
        self.raised = [*_newest(valid[-MOST_RAISED:], MOST_RAISED_NAMES), exception]

    def raised_for(self, scope: Scope) -> dict[str, tuple[int, int]]:
        """Rule -> (limit in nano-dollars, until) for a scope that has just come into being."""
        return {
            rule: (limit_nanousd, until_ms)
            for rule, key, limit_nanousd, until_ms in self.raised
            if key == scope.override_key and scope.watched_by(rule)
        }

    def scopes_named(self, scope_id: str) -> list[Scope]:
        """The scopes that commands to `scope_id` are about, by key: all of a tenant's may be commanded at once."""
        if not self.scope_ids:
            for key in sorted(self.scopes):
                self.scope_ids.setdefault(self.scopes[key].scope_id, []).append(self.scopes[key])
        return self.scope_ids.get(scope_id, [])

    @property
    def is_overflow(self) -> bool:
        """Whether it stands for tenants of whom nobody is known by itself."""
        return self.tenant_id == OVERFLOW_TENANT

    def is_forgotten(self, now_ms: int) -> bool:
        """Whether it has been silent for so long that nothing is left that could still matter."""
        return (
            self.clock_ms + FORGET_MS <= now_ms
            and not (self.runs or self.sessions or self.trees or len(self.asleep))
            and not (self.commands or self.held or self.totals or self.failing or self.results or self.escalations)
            and all(incident.alert is None for incident in self.incidents.values())
            and all(exception.until_ms + KEEP_MS <= now_ms for exception in self.raised)
        )

    def rows(self) -> list[Row]:
        """All rows of a tenant without runs, sessions and trees that is to be forgotten."""
        histories = [scope.history for scope in self.scopes.values() if scope.history is not None]
        models = [past for cohort in self.cohorts.values() for past in cohort.models.values()]
        others = [*self.cohorts.values(), *models, *self.incidents.values(), *self.names.values()]
        return [self, *self.scopes.values(), *histories, *others]

    def look_after_silence(self, now_ms: int) -> None:
        """Have somebody look, at the turn of a day, whether it can be forgotten."""
        due_ms = max(self.clock_ms + FORGET_MS, now_ms)
        self.wake_at(due_ms - due_ms % DAY_MS + DAY_MS, "tenant", ())

    def wake_at(self, due_ms: int, kind: str, key: tuple[str, ...]) -> None:
        """Have `kind` and `key` looked at once the tenant's time reaches `due_ms`."""
        heappush(self.timers, (due_ms, kind, key))

    def wait_for_limit(self, scope: Scope, due_ms: int) -> None:
        """Have a scope looked at when one of its limits ends; 0 for never, and in place of what was said before."""
        if due_ms != scope.due_ms:
            scope.due_ms = due_ms
            if due_ms:
                self.wake_at(due_ms, scope.kind, scope.key)

    def wait_for_record(self, run: Run, due_ms: int) -> None:
        """Have a run looked at in that second, unless it is to be looked at at another time by then."""
        run.due_ms = due_ms
        runs = self.recorded_at.get(due_ms)
        if runs is None:
            runs = self.recorded_at[due_ms] = []
            self.wake_at(due_ms, "run", ("",))
        runs.append(run)

    def records_due(self, due_ms: int) -> None:
        """Have timers of their own those that still wait for this second: they come next, by id."""
        for run in self.recorded_at.pop(due_ms, ()):
            if run.due_ms == due_ms:
                self.wake_at(due_ms, "run", (run.unit_id,))

    def is_due(self, now_ms: int) -> bool:
        """Whether something may fall due by `now_ms`."""
        return bool(self.timers) and self.timers[0][0] <= now_ms

    def next_timer(self, now_ms: int) -> Timer | None:
        """Take the earliest timer that is due."""
        if self.timers and self.timers[0][0] <= now_ms:
            return heappop(self.timers)
        return None

    def run(self, run_id: str) -> Run | None:
        """A run that is awake, decoded if this is its first touch since a restore."""
        known = self.runs.get(run_id)
        if not isinstance(known, bytes):
            return known
        run = self.runs[run_id] = Run.read(self.tenant_id, run_id, known)
        run.row_hash = row_digest(row_key(run), known)
        return run

    def peek_run(self, run_id: str) -> Run | None:
        """A run, awake or asleep; a sleeping one is read and sleeps on."""
        run = self.run(run_id)
        if run is None and (row := self.asleep.peek("run", run_id)) is not None:
            run = Run.read(self.tenant_id, run_id, row)
        return run

    def live(self) -> list[Run]:
        """The live runs, by id."""
        live_ids = [
            run_id
            for run_id, run in self.runs.items()
            if (run[HEADER.size - 1] == LIVE if isinstance(run, bytes) else run.state == "live")
        ]
        return [run for run_id in sorted(live_ids) if (run := self.run(run_id)) is not None]

    def live_in(self, target: Target) -> list[Run]:
        """The live runs of a session or run tree, by id, or the run itself if it lives; for other targets none."""
        match target.type:
            case "run":
                run = self.run(target.id)
                return [] if run is None or run.state != "live" else [run]
            case "session":
                return [run for run in self.live() if run.session_id == target.id]
            case "run_tree":
                return [run for run in self.live() if run.root_run_id == target.id]
            case _:
                return []

    def remembers(self, kind: UnitKind, unit_id: str) -> bool:
        """Whether a run, session or run tree is known, awake or asleep."""
        awake = unit_id in self.runs if kind == "run" else self.group(kind, unit_id) is not None
        return awake or self.asleep.peek(ROW_KINDS[kind], unit_id) is not None

    def group(self, target_type: TargetType, group_id: str | None) -> Session | RunTree | None:
        """A session or run tree that is awake."""
        if group_id is None or target_type not in ("session", "run_tree"):
            return None
        return self.sessions.get(group_id) if target_type == "session" else self.trees.get(group_id)

    def unit(self, target_type: TargetType, unit_id: str) -> Run | Session | RunTree | None:
        """The run, session or run tree that a target names, if it is awake; None for other targets."""
        return self.run(unit_id) if target_type == "run" else self.group(target_type, unit_id)

    def commands_on(self, run: Run) -> list[StandingCommand]:
        """Every target's last command that concerns a run: its own, its session's, its tree's."""
        found = [self.commands.get(("run", run.unit_id)), self.commands.get(("run_tree", run.root_run_id))]
        if run.session_id is not None:
            found.append(self.commands.get(("session", run.session_id)))
        return [command for command in found if command is not None]

    def action_on(self, run_id: str | None, unit_key: str | None, now_ms: int) -> Action | None:
        """The strongest command that stands on a run or, as `unit_key` names it, on a session or run tree."""
        run = None if run_id is None else self.run(run_id)
        found = [] if run is None else self.commands_on(run)
        if unit_key is not None and (command := self.commands.get(target_of(unit_key))) is not None:
            found.append(command)
        actions = [command.action for command in found if command.stands(now_ms)]
        return max(actions, key=STRENGTH.__getitem__, default=None)

    def key_parts(self) -> tuple[str, ...]:
        return (self.tenant_id,)

    def fields(self) -> tuple[Any, ...]:
        return (
            self.clock_ms, self.kill_times_ms, self.stops, self.quality.fields(), self.stale_events, self.stale_nanousd,
            self.raised, self.held_due_ms, self.sleep_due_ms, self.ordered_ms, self.orders_due_ms,
        )  # fmt: skip

    def read(self, fields: tuple[Any, ...]) -> None:
        """Take over what the tenant's row holds. Its clock may be behind: runs carry a later one."""
        (
            clock_ms, self.kill_times_ms, stops, quality, self.stale_events, self.stale_nanousd, raised,
            self.held_due_ms, self.sleep_due_ms, self.ordered_ms, self.orders_due_ms,
        ) = fields  # fmt: skip
        self.stops = {key: [(at_ms, run_id) for at_ms, run_id in latest] for key, latest in stops.items()}
        self.quality = DataQuality.read(quality)
        self.raised = [Raised(*exception) for exception in raised]
        self.clock_ms = max(self.clock_ms, clock_ms)


def _newest(raised: list[Raised], most_characters: int) -> list[Raised]:
    """The newest exceptions whose names have so many characters together."""
    for place in range(len(raised) - 1, -1, -1):
        most_characters -= len(raised[place].rule) + len(raised[place].scope)
        if most_characters < 0:
            return raised[place + 1 :]
    return raised
